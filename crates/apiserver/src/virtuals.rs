//! Resources that are not stored: bindings, component statuses, reviews, tokens.

use std::sync::Arc;

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::field::{Error, Path};
use api_semantics::status::Status;
use authn::UserInfo;
use authn::service_account::{Binding, Issuer, ObjectRef, Order};
use authn::token_request;
use authz::{Attributes, Decision};
use registry::Context;

use crate::api::{Answer, ApiRequest, not_allowed};
use crate::handler::{Chain, typed_answer};

/// What the virtual resources need beside the chain.
pub struct Virtuals {
    /// Makes service account tokens.
    pub issuer: Arc<Issuer>,
    /// How long tokens may live.
    pub token_limits: token_request::Limits,
    /// Lists what a user may do, for SelfSubjectRulesReview.
    pub rules: Arc<dyn RuleLister>,
}

/// What is said of a token that nobody knows.
const INVALID_TOKEN: &str = "invalid bearer token";

/// Lists what a user may do.
pub trait RuleLister: Send + Sync {
    /// The resource rules and the path rules (each as its API type) of a user in a namespace, whether the list is
    /// incomplete, and why.
    fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Value>, Vec<Value>, bool, String);
}

impl Virtuals {
    /// Answers a request for a virtual resource; `None` for stored ones. Warnings are left in `cx`.
    pub async fn answer(
        &self,
        chain: &Chain,
        request: &ApiRequest,
        cx: &mut Context,
    ) -> Option<Result<Answer, Status>> {
        let info = &request.info;
        let key = (&*info.group, &*info.version, &*info.resource, &*info.subresource);
        let creates = info.verb == "create";
        Some(match key {
            ("", "v1", "componentstatuses", "") => self.component_statuses(request),
            ("", "v1", "bindings", "") if creates => self.binding(chain, request, cx).await,
            ("", "v1", "serviceaccounts", "token") if creates => self.token(chain, request, cx).await,
            ("authentication.k8s.io", "v1", "tokenreviews", "") if creates => token_review(chain, request, cx),
            ("authentication.k8s.io", "v1", "selfsubjectreviews", "") if creates => {
                self_subject_review(chain, request, cx)
            }
            (
                "authorization.k8s.io",
                "v1",
                "subjectaccessreviews" | "selfsubjectaccessreviews" | "localsubjectaccessreviews",
                "",
            ) if creates => access_review(chain, request, cx),
            ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "") if creates => self.rules_review(request, cx),
            ("", "v1", "bindings", "")
            | ("authentication.k8s.io", "v1", "tokenreviews" | "selfsubjectreviews", "")
            | (
                "authorization.k8s.io",
                "v1",
                "subjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectrulesreviews",
                "",
            ) => Err(not_allowed()),
            _ => return None,
        })
    }

    /// The health of the parts, as `kubectl get cs` shows it: they are parts of this program, and are healthy if it
    /// answers.
    fn component_statuses(&self, request: &ApiRequest) -> Result<Answer, Status> {
        let info = &request.info;
        let status = |name: &str| {
            let mut condition = Map::new();
            condition.insert("type", "Healthy");
            condition.insert("status", "True");
            condition.insert("message", "ok");
            let mut object = Value::default();
            object.set(&["metadata", "name"], name);
            object.set(&["conditions"], vec![Value::Map(condition)]);
            object
        };
        let names = ["etcd-0"];
        match &*info.verb {
            "get" => {
                let Some(name) = names.iter().find(|name| **name == info.name) else {
                    return Err(Status::not_found(
                        &api_semantics::status::GroupResource::new("", "componentstatuses"),
                        &info.name,
                    ));
                };
                let mut object = status(name);
                object.set(&["apiVersion"], "v1");
                object.set(&["kind"], "ComponentStatus");
                crate::virtual_tables::answer(request, "ComponentStatus", vec![object], false)
            }
            "list" => {
                let items = names.iter().map(|name| status(name)).collect();
                crate::virtual_tables::answer(request, "ComponentStatus", items, true)
            }
            _ => Err(not_allowed()),
        }
    }

    async fn binding(&self, chain: &Chain, request: &ApiRequest, cx: &mut Context) -> Result<Answer, Status> {
        let binding = request.decode_as("v1", "Binding", cx)?;
        let registry = &chain.api.registry;
        let Some(pods) = registry.served("", "v1", "pods") else { return Err(Status::path_not_found()) };
        registry.bind(&pods, cx, &request.info.namespace, &binding).await?;
        typed_answer(request, 201, &crate::api::success(201))
    }

    async fn token(&self, chain: &Chain, request: &ApiRequest, cx: &mut Context) -> Result<Answer, Status> {
        let info = &request.info;
        let registry = &chain.api.registry;
        let mut review = request.decode_as("authentication.k8s.io/v1", "TokenRequest", cx)?;
        let stated = review.str_at(&["metadata", "name"]);
        if !stated.is_empty() && stated != info.name {
            let error =
                Error::invalid(&Path::new("metadata.name"), stated, "must match the service account name if specified");
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", &info.name, &[error]));
        }
        let accounts = api_semantics::status::GroupResource::new("", "serviceaccounts");
        let Some(account) = fresh(chain, "serviceaccounts", &info.namespace, &info.name).await else {
            return Err(Status::not_found(&accounts, &info.name));
        };
        let requested = review.int_at(&["spec", "expirationSeconds"]).unwrap_or(3600);
        if let Some(why) = token_request::validate(requested) {
            let error = Error::invalid(&Path::new("spec.expirationSeconds"), requested, why);
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
        }
        registry.admit_subresource(cx, "serviceaccounts", "token", &info.namespace, &info.name, &mut review).await?;
        let audiences: Vec<String> = match review.list_at(&["spec", "audiences"]) {
            [] => chain.authenticator.load().api_audiences().to_vec(),
            stated => stated.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect(),
        };
        let bound = self.bound_object(chain, &info.namespace, &info.name, &review).await?;
        let is_pod = matches!(bound, Binding::Pod(..));
        let lifetime = token_request::plan(requested, is_pod, &audiences, &self.token_limits);
        let now = registry.world().clock.now();
        let order = Order {
            namespace: info.namespace.clone(),
            service_account: ObjectRef::new(&info.name, account.str_at(&["metadata", "uid"])),
            binding: bound,
            audiences: audiences.clone(),
            lifetime_seconds: lifetime.token_seconds,
            warn_after_seconds: lifetime.warn_after_seconds,
        };
        cx.warnings.extend(lifetime.warning);
        let issued = self
            .issuer
            .issue(&order, now.seconds)
            .map_err(|e| Status::internal(format!("failed to generate token: {e}")))?;
        review.set(&["metadata", "name"], info.name.clone());
        review.set(&["metadata", "namespace"], info.namespace.clone());
        review.set(&["metadata", "uid"], account.str_at(&["metadata", "uid"]));
        review.set(&["metadata", "creationTimestamp"], registry::codec::time(now));
        review.set(&["spec", "expirationSeconds"], lifetime.expiration_seconds);
        review.set(&["spec", "audiences"], audiences.into_iter().map(Value::from).collect::<Vec<_>>());
        review.set(&["status", "token"], issued.token);
        let expires = world::Timestamp::from_seconds(now.seconds + lifetime.expiration_seconds);
        review.set(&["status", "expirationTimestamp"], registry::codec::time(expires));
        typed_answer(request, 201, &review)
    }

    /// The object that a token is bound to, if the request names one.
    async fn bound_object(
        &self,
        chain: &Chain,
        namespace: &str,
        account: &str,
        review: &Value,
    ) -> Result<Binding, Status> {
        let Some(wanted) = review.at(&["spec", "boundObjectRef"]) else { return Ok(Binding::None) };
        let (kind, name, uid) = (wanted.str_at(&["kind"]), wanted.str_at(&["name"]), wanted.str_at(&["uid"]));
        let (resource, scope) = match (wanted.str_at(&["apiVersion"]), kind) {
            ("v1", "Pod") => ("pods", namespace),
            ("v1", "Secret") => ("secrets", namespace),
            ("v1", "Node") => ("nodes", ""),
            _ => {
                let api_version = wanted.str_at(&["apiVersion"]);
                let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {group}/{version}, Kind={kind}"
                )));
            }
        };
        let group_resource = api_semantics::status::GroupResource::new("", resource);
        let Some(object) = fresh(chain, resource, scope, name).await else {
            return Err(Status::not_found(&group_resource, name));
        };
        let own_uid = object.str_at(&["metadata", "uid"]);
        if !uid.is_empty() && uid != own_uid {
            return Err(Status::conflict(
                &api_semantics::status::GroupResource::new("", kind),
                name,
                format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        let object_ref = ObjectRef::new(name, own_uid);
        Ok(match resource {
            "pods" => {
                let own = object.str_at(&["spec", "serviceAccountName"]);
                if own != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                        api_semantics::field::quoted(account)
                    )));
                }
                let node = object.str_at(&["spec", "nodeName"]);
                let node = if node.is_empty() {
                    None
                } else {
                    let uid = fresh(chain, "nodes", "", node).await;
                    Some(ObjectRef::new(node, uid.as_ref().map_or("", |n| n.str_at(&["metadata", "uid"]))))
                };
                Binding::Pod(object_ref, node)
            }
            "secrets" => Binding::Secret(object_ref),
            _ => Binding::Node(object_ref),
        })
    }

    fn rules_review(&self, request: &ApiRequest, cx: &mut Context) -> Result<Answer, Status> {
        let mut review = request.decode_as("authorization.k8s.io/v1", "SelfSubjectRulesReview", cx)?;
        let namespace = SmolStr::new(review.str_at(&["spec", "namespace"]));
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let (resources, paths, incomplete, error) = self.rules.rules_for(&request.user, &namespace);
        review.set(&["status", "resourceRules"], resources);
        review.set(&["status", "nonResourceRules"], paths);
        review.set(&["status", "incomplete"], incomplete);
        if !error.is_empty() {
            review.set(&["status", "evaluationError"], error);
        }
        review.set(&["spec"], Map::new());
        typed_answer(request, 201, &review)
    }
}

async fn fresh(chain: &Chain, resource: &str, namespace: &str, name: &str) -> Option<Value> {
    admission::View::get_fresh(&*chain.api.registry, "", resource, namespace, name).await
}

fn user_value(user: &UserInfo) -> Value {
    let mut value = Value::Map(Map::new());
    value.set(&["username"], user.name.clone());
    if !user.uid.is_empty() {
        value.set(&["uid"], user.uid.clone());
    }
    let list = |items: &[SmolStr]| items.iter().cloned().map(Value::from).collect::<Vec<_>>();
    if !user.groups.is_empty() {
        value.set(&["groups"], list(&user.groups));
    }
    for (key, values) in &user.extra {
        value.set(&["extra", key], list(values));
    }
    value
}

fn token_review(chain: &Chain, request: &ApiRequest, cx: &mut Context) -> Result<Answer, Status> {
    let mut review = request.decode_as("authentication.k8s.io/v1", "TokenReview", cx)?;
    let token = review.str_at(&["spec", "token"]).to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        review.list_at(&["spec", "audiences"]).iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
    let now = chain.api.registry.world().clock.now().seconds;
    review.set(&["status"], Map::new());
    match chain.authenticator.load().authenticate_token(&token, &audiences, now) {
        Ok(found) => {
            review.set(&["status", "authenticated"], true);
            review.set(&["status", "user"], user_value(&found.user));
            if !found.audiences.is_empty() {
                let granted: Vec<Value> = found.audiences.iter().map(|a| Value::from(a.as_str())).collect();
                review.set(&["status", "audiences"], granted);
            }
        }
        Err(mut refused) => {
            review.set(&["status", "user"], Map::new());
            // Those who know other kinds of tokens refuse it first.
            if let [reason] = refused.reasons.as_slice()
                && reason != INVALID_TOKEN
            {
                refused.reasons.insert(0, INVALID_TOKEN.to_owned());
            }
            review.set(&["status", "error"], refused.to_string());
        }
    }
    typed_answer(request, 201, &review)
}

fn self_subject_review(chain: &Chain, request: &ApiRequest, cx: &mut Context) -> Result<Answer, Status> {
    let mut review = request.decode_as("authentication.k8s.io/v1", "SelfSubjectReview", cx)?;
    review.set(&["metadata", "creationTimestamp"], registry::codec::time(chain.api.registry.world().clock.now()));
    review.set(&["status", "userInfo"], user_value(&request.user));
    typed_answer(request, 201, &review)
}

fn access_review(chain: &Chain, request: &ApiRequest, cx: &mut Context) -> Result<Answer, Status> {
    let kind = match &*request.info.resource {
        "subjectaccessreviews" => "SubjectAccessReview",
        "localsubjectaccessreviews" => "LocalSubjectAccessReview",
        _ => "SelfSubjectAccessReview",
    };
    let mut review = request.decode_as("authorization.k8s.io/v1", kind, cx)?;
    let errors = kinds::all::find("authorization.k8s.io", &request.info.resource)
        .map(|k| k.validate(&review))
        .unwrap_or_default();
    if !errors.is_empty() {
        // Upstream does not say which kind.
        return Err(Status::invalid("authorization.k8s.io", "", "", &errors));
    }
    if kind == "LocalSubjectAccessReview" {
        let namespace = review.str_at(&["spec", "resourceAttributes", "namespace"]);
        if namespace != request.info.namespace {
            return Err(Status::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {}",
                request.info.namespace
            )));
        }
    }
    let user = if kind == "SelfSubjectAccessReview" {
        (*request.user).clone()
    } else {
        UserInfo {
            name: review.str_at(&["spec", "user"]).into(),
            uid: review.str_at(&["spec", "uid"]).into(),
            groups: review.list_at(&["spec", "groups"]).iter().filter_map(|g| g.as_str().map(SmolStr::new)).collect(),
            extra: review
                .map_at(&["spec", "extra"])
                .into_iter()
                .flat_map(Map::iter)
                .map(|(key, values)| {
                    let values = values.as_list().unwrap_or_default();
                    (
                        format_smolstr!("{}", key.to_lowercase()),
                        values.iter().filter_map(|v| v.as_str().map(SmolStr::new)).collect(),
                    )
                })
                .collect(),
        }
    };
    let star = |text: &str| if text == "*" { String::from("*") } else { text.to_owned() };
    let decision = match review.at(&["spec", "resourceAttributes"]) {
        Some(resource) => {
            let version = star(resource.str_at(&["version"]));
            chain.decide(&Attributes {
                user: &user,
                verb: resource.str_at(&["verb"]),
                is_resource: true,
                group: resource.str_at(&["group"]),
                version: &version,
                resource: resource.str_at(&["resource"]),
                subresource: resource.str_at(&["subresource"]),
                namespace: resource.str_at(&["namespace"]),
                name: resource.str_at(&["name"]),
                path: "",
                field_selector: resource.str_at(&["fieldSelector", "rawSelector"]),
            })
        }
        None => {
            let path = review.at(&["spec", "nonResourceAttributes"]).cloned().unwrap_or_default();
            chain.decide(&Attributes {
                user: &user,
                verb: path.str_at(&["verb"]),
                is_resource: false,
                group: "",
                version: "",
                resource: "",
                subresource: "",
                namespace: "",
                name: "",
                path: path.str_at(&["path"]),
                field_selector: "",
            })
        }
    };
    review.set(&["status"], Map::new());
    review.set(&["status", "allowed"], decision.is_allowed());
    if matches!(decision, Decision::Deny(_)) {
        review.set(&["status", "denied"], true);
    }
    if !decision.reason().is_empty() {
        review.set(&["status", "reason"], decision.reason());
    }
    typed_answer(request, 201, &review)
}
