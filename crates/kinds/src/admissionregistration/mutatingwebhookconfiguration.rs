//! MutatingWebhookConfiguration: servers outside of the cluster's own whose answer changes requests.

use api_schema::Value;
use api_semantics::field::ErrorList;

use super::webhook;
use crate::Kind;
use crate::checks::name;

pub(crate) struct MutatingWebhookConfiguration;

impl Kind for MutatingWebhookConfiguration {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "mutatingwebhookconfigurations"
    }

    fn default(&self, object: &mut Value) {
        webhook::default(object, true);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        webhook::check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        webhook::check(new, Some(old))
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        super::warnings(new)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let hooks = i64::try_from(object.list_at(&["webhooks"]).len()).unwrap_or(i64::MAX);
        Some(vec![name(object), hooks.into(), api_semantics::time::age(object, now)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update};

    const KIND: &dyn Kind = &MutatingWebhookConfiguration;

    fn object(hook: &str) -> String {
        format!(
            r#"{{"webhooks":[{{"name":"a.b.c","sideEffects":"None","admissionReviewVersions":["v1"],
                "clientConfig":{{"url":"https://a"}}{hook}}}]}}"#
        )
    }

    #[test]
    fn hooks_get_their_defaults() {
        defaults(
            KIND,
            r#"{"webhooks":[{"clientConfig":{"service":{}},"rules":[{}]}]}"#,
            r#"{"webhooks":[{"clientConfig":{"service":{"port":443}},"rules":[{"scope":"*"}],"failurePolicy":"Fail",
                "matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},"timeoutSeconds":10,
                "reinvocationPolicy":"Never"}]}"#,
        );
    }

    #[test]
    fn hooks_say_what_they_do() {
        for (hook, expect) in [
            ("", ""),
            (
                r#","failurePolicy":"A","matchPolicy":"B","timeoutSeconds":31,"reinvocationPolicy":"C",
                    "matchConditions":[{"name":"x","expression":""}]"#,
                "webhooks[0].failurePolicy: Unsupported value: \"A\": supported values: \"Fail\", \"Ignore\"\n\
                 webhooks[0].matchPolicy: Unsupported value: \"B\": supported values: \"Equivalent\", \"Exact\"\n\
                 webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds\n\
                 webhooks[0].reinvocationPolicy: Unsupported value: \"C\": supported values: \"IfNeeded\", \
                 \"Never\"\n\
                 webhooks[0].matchConditions[0].expression: Required value",
            ),
        ] {
            create(KIND, &object(hook), expect);
        }
    }

    #[test]
    fn hooks_are_called_somewhere() {
        create(
            KIND,
            r#"{"webhooks":[{},{"name":"a.b","sideEffects":"Some","admissionReviewVersions":["v2","v2"],
                "clientConfig":{"service":{"name":"x","path":"/"},"url":"https://a"}},
                {"name":"a.b.c","sideEffects":"None","admissionReviewVersions":["v1"],
                "clientConfig":{"service":{"name":"x"}}},
                {"name":"a.b.c","sideEffects":"None","admissionReviewVersions":["v1"],
                "clientConfig":{"url":"https://a"}}]}"#,
            "webhooks[0].name: Required value\n\
             webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun\n\
             webhooks[0].clientConfig: Required value: exactly one of url or service is required\n\
             webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1\n\
             webhooks[1].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by \
             dots\n\
             webhooks[1].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"\n\
             webhooks[1].clientConfig: Required value: exactly one of url or service is required\n\
             webhooks[1].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version\n\
             webhooks[1].admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, \
             v1beta1\n\
             webhooks[2].clientConfig.service.name: Required value\n\
             webhooks[3].name: Duplicate value: \"a.b.c\"",
        );
    }

    #[test]
    fn old_faults_are_tolerated() {
        let old = r#"{"webhooks":[
            {"name":"a.b.c","sideEffects":"Some","admissionReviewVersions":["v2"],"clientConfig":{"url":"https://a"},
                "matchConditions":[{"name":"x"}]},
            {"name":"a.b.c","sideEffects":"Some","admissionReviewVersions":["v2"],"clientConfig":{"url":"https://a"}}]}"#;
        update(KIND, old, &old.replace("https://a", "https://b"), "");
    }

    #[test]
    fn cells_count_the_hooks() {
        cells(KIND, r#"{"metadata":{"name":"a"},"webhooks":[{},{}]}"#, r#"["a",2,"<unknown>"]"#);
    }
}
