//! ValidatingWebhookConfiguration: servers outside of the cluster's own whose answer judges requests.

use api_schema::Value;
use api_semantics::field::ErrorList;

use super::webhook;
use crate::Kind;
use crate::checks::name;

pub(crate) struct ValidatingWebhookConfiguration;

impl Kind for ValidatingWebhookConfiguration {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "validatingwebhookconfigurations"
    }

    fn default(&self, object: &mut Value) {
        webhook::default(object, false);
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
    use crate::checks::tests::{cells, create, defaults};

    const KIND: &dyn Kind = &ValidatingWebhookConfiguration;

    #[test]
    fn hooks_are_not_called_again() {
        defaults(
            KIND,
            r#"{"webhooks":[{}]}"#,
            r#"{"webhooks":[{"failurePolicy":"Fail","matchPolicy":"Equivalent","namespaceSelector":{},
                "objectSelector":{},"timeoutSeconds":10}]}"#,
        );
    }

    #[test]
    fn rules_are_checked() {
        create(
            KIND,
            r#"{"webhooks":[{"name":"a.b.c","sideEffects":"None","admissionReviewVersions":["v1","V"],
                "clientConfig":{"url":"https://a"},"namespaceSelector":{"matchLabels":{"a":"_"}},
                "rules":[{"operations":["*"],"apiGroups":["a"],"apiVersions":["b"],"resources":[]}]}]}"#,
            "webhooks[0].rules[0].resources: Required value\n\
             webhooks[0].namespaceSelector.matchLabels: Invalid value: \"_\": a valid label must be an empty string \
             or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
             character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')\n\
             webhooks[0].admissionReviewVersions[1]: Invalid value: \"V\": a DNS-1035 label must consist of lower \
             case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric \
             character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
             '[a-z]([-a-z0-9]*[a-z0-9])?')",
        );
    }

    #[test]
    fn cells_count_the_hooks() {
        cells(KIND, r#"{"metadata":{"name":"a"}}"#, r#"["a",0,"<unknown>"]"#);
    }
}
