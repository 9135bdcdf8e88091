"""The story that python.rs tells with the Python client: one function for each chapter, chosen by its name."""

import json
import sys

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()


def same(found, expected):
    assert found == expected, f"found {found!r}, expected {expected!r}"


def refused(status, reason, call, *args, **kwargs):
    """The Status that a call is refused with."""
    try:
        answer = call(*args, **kwargs)
    except ApiException as error:
        body = json.loads(error.body)
        same((error.status, body["kind"], body["status"]), (status, "Status", "Failure"))
        same((body["code"], body["reason"]), (status, reason))
        same(error.headers["Content-Type"], "application/json")
        return body
    raise AssertionError(f"not refused, but: {answer}")


def config_map(name, data, **meta):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, **meta), data=data)


def deployment(name, replicas, labels=None):
    labels = labels or {"app": name}
    container = client.V1Container(
        name="nginx",
        image="nginx:1.27",
        ports=[client.V1ContainerPort(container_port=80)],
        resources=client.V1ResourceRequirements(requests={"cpu": "250m", "memory": "64Mi"}),
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(containers=[container])
    )
    spec = client.V1DeploymentSpec(
        replicas=replicas, selector=client.V1LabelSelector(match_labels={"app": name}), template=template
    )
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name, labels=labels), spec=spec)


def objects():
    names = {item.metadata.name for item in core.list_namespace().items}
    assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= names, names
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="n")))
    same(core.read_namespace("n").status.phase, "Active")

    made = core.create_namespaced_config_map("n", config_map("c", {"a": "1"}))
    same(made.data, {"a": "1"})
    patched = core.patch_namespaced_config_map("c", "n", {"data": {"a": None, "b": "2"}})
    same(patched.data, {"b": "2"})
    same(patched.metadata.uid, made.metadata.uid)
    patched.data = {"d": "4"}
    replaced = core.replace_namespaced_config_map("c", "n", patched)
    same(core.read_namespaced_config_map("c", "n").data, {"d": "4"})
    assert replaced.metadata.resource_version != patched.metadata.resource_version
    same(core.replace_namespaced_config_map("c", "n", replaced).metadata.resource_version,
         replaced.metadata.resource_version)
    same(core.delete_namespaced_config_map("c", "n")["status"], "Success")
    refused(404, "NotFound", core.read_namespaced_config_map, "c", "n")

    made = apps.create_namespaced_deployment("n", deployment("web", 2))
    same((made.spec.replicas, made.metadata.generation), (2, 1))
    same(made.spec.strategy.rolling_update.max_surge, "25%")
    same(made.spec.template.spec.containers[0].resources.requests, {"cpu": "250m", "memory": "64Mi"})
    same(made.spec.template.spec.restart_policy, "Always")
    # The client sends a dictionary as a strategic merge patch: containers are merged by their names.
    image = {"spec": {"template": {"spec": {"containers": [{"name": "nginx", "image": "nginx:1.28"}]}}}}
    patched = apps.patch_namespaced_deployment("web", "n", image)
    same(patched.spec.template.spec.containers[0].image, "nginx:1.28")
    same(patched.spec.template.spec.containers[0].ports[0].container_port, 80)
    same(patched.metadata.generation, 2)
    # And a list as a JSON patch.
    pause = [{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "add", "path": "/spec/paused", "value": True}]
    same(apps.patch_namespaced_deployment("web", "n", pause).spec.paused, True)
    fresh = apps.read_namespaced_deployment("web", "n")
    fresh.spec.replicas = 4
    fresh.spec.paused = None
    replaced = apps.replace_namespaced_deployment("web", "n", fresh)
    same((replaced.spec.replicas, replaced.spec.paused, replaced.metadata.generation), (4, None, 4))
    scale = apps.read_namespaced_deployment_scale("web", "n")
    same((scale.spec.replicas, scale.status.selector), (4, "app=web"))
    scale.spec.replicas = 5
    same(apps.replace_namespaced_deployment_scale("web", "n", scale).spec.replicas, 5)
    status = {"status": {"observedGeneration": 5, "replicas": 1}}
    same(apps.patch_namespaced_deployment_status("web", "n", status).status.replicas, 1)
    same(apps.read_namespaced_deployment("web", "n").spec.replicas, 5)
    dry = apps.patch_namespaced_deployment("web", "n", {"spec": {"replicas": 7}}, dry_run="All")
    same((dry.spec.replicas, apps.read_namespaced_deployment("web", "n").spec.replicas), (7, 5))
    same([item.metadata.name for item in apps.list_deployment_for_all_namespaces(label_selector="app in (web)").items],
         ["web"])
    same(apps.list_namespaced_deployment("n", field_selector="metadata.name!=web").items, [])
    same(apps.delete_namespaced_deployment("web", "n", propagation_policy="Background")["status"], "Success")
    same(apps.list_namespaced_deployment("n").items, [])

    core.create_namespaced_config_map("n", config_map("x", {}, labels={"of": "them"}))
    core.create_namespaced_config_map("n", config_map("y", {}, labels={"of": "them"}))
    core.create_namespaced_config_map("n", config_map("z", {}))
    core.delete_collection_namespaced_config_map("n", label_selector="of=them")
    left = {item.metadata.name for item in core.list_namespaced_config_map("n").items}
    same(left & {"x", "y", "z"}, {"z"})
    assert client.VersionApi().get_code().git_version.startswith("v1."), "the version"


def seen(events):
    return [(event["type"], event["object"].metadata.name, event["object"].data) for event in events]


def watching():
    maps = core.list_namespaced_config_map
    core.create_namespaced_config_map("default", config_map("before", {}))
    start = maps("default").metadata.resource_version
    core.create_namespaced_config_map("default", config_map("a", {"n": "1"}, labels={"keep": "yes"}))
    middle = core.patch_namespaced_config_map("a", "default", {"data": {"n": "2"}}).metadata.resource_version
    core.create_namespaced_config_map("default", config_map("b", {"n": "3"}, labels={"keep": "yes"}))
    # Leaving what the selector picks looks like a deletion to who watches by it.
    core.patch_namespaced_config_map("a", "default", {"metadata": {"labels": {"keep": "no"}}})
    core.delete_namespaced_config_map("a", "default")
    core.delete_namespaced_config_map("b", "default")

    def watched(**options):
        """All that a watch tells until the last thing that happened."""
        told = []
        for event in watch.Watch().stream(maps, "default", timeout_seconds=30, **options):
            told += seen([event])
            if told[-1][:2] == ("DELETED", "b"):
                break
        return told

    all_of_it = [
        ("ADDED", "a", {"n": "1"}),
        ("MODIFIED", "a", {"n": "2"}),
        ("ADDED", "b", {"n": "3"}),
        ("MODIFIED", "a", {"n": "2"}),
        ("DELETED", "a", {"n": "2"}),
        ("DELETED", "b", {"n": "3"}),
    ]
    same(watched(resource_version=start), all_of_it)
    same(watched(resource_version=middle), all_of_it[2:])
    same(watched(resource_version=start, label_selector="keep=yes"),
         all_of_it[:3] + [("DELETED", "a", {"n": "2"}), all_of_it[5]])
    same(watched(resource_version=start, field_selector="metadata.name=b"), [all_of_it[2], all_of_it[5]])

    # Without a version it begins with what there is; asked to, it says where that ends.
    core.create_namespaced_config_map("default", config_map("b", {}))
    names = [item.metadata.name for item in maps("default").items]
    for event in watch.Watch().stream(maps, "default", send_initial_events=True, allow_watch_bookmarks=True,
                                      resource_version_match="NotOlderThan", timeout_seconds=30):
        if event["type"] == "BOOKMARK":
            same(event["raw_object"]["metadata"]["annotations"], {"k8s.io/initial-events-end": "true"})
            break
        same((event["type"], event["object"].metadata.name), ("ADDED", names.pop(0)))
    same(names, [])
    event = next(watch.Watch().stream(maps, "default", field_selector="metadata.name=before", timeout_seconds=30))
    same(seen([event]), [("ADDED", "before", None)])

    # A change is seen while the watch is open; the stream goes on from the version it has seen last.
    now = core.list_namespaced_config_map("default").metadata.resource_version
    watcher = watch.Watch()
    stream = watcher.stream(core.list_namespaced_config_map, "default", resource_version=now, timeout_seconds=30)
    for number in range(3):
        last = core.patch_namespaced_config_map("b", "default", {"data": {"n": f"live {number}"}})
        same(seen([next(stream)]), [("MODIFIED", "b", {"n": f"live {number}"})])
    same(watcher.resource_version, last.metadata.resource_version)
    watcher.stop()


def apply():
    dyn = dynamic.DynamicClient(client.ApiClient())
    maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
    deployments = dyn.resources.get(api_version="apps/v1", kind="Deployment")
    same((deployments.name, deployments.namespaced), ("deployments", True))

    def apply_map(manager, data, **options):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data}
        return maps.server_side_apply(body, namespace="default", field_manager=manager, **options).to_dict()

    def owners(found):
        return {entry["manager"]: sorted(entry["fieldsV1"]["f:data"]) for entry in found["metadata"]["managedFields"]}

    first = apply_map("one", {"a": "1", "b": "1"})
    same(owners(first), {"one": ["f:a", "f:b"]})
    again = apply_map("one", {"a": "1", "b": "1"})
    same(again["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"])
    both = apply_map("two", {"b": "1", "c": "2"})
    same(both["data"], {"a": "1", "b": "1", "c": "2"})
    same(owners(both), {"one": ["f:a", "f:b"], "two": ["f:b", "f:c"]})

    try:
        apply_map("two", {"b": "2", "c": "2"})
        raise AssertionError("a conflict is refused")
    except dynamic.exceptions.ConflictError as error:
        body = json.loads(error.body)
    same((body["code"], body["reason"]), (409, "Conflict"))
    same(body["message"], 'Apply failed with 1 conflict: conflict with "one": .data.b')
    same(body["details"]["causes"], [{"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.b"}])

    forced = apply_map("two", {"b": "2", "c": "2"}, force_conflicts=True)
    same(forced["data"], {"a": "1", "b": "2", "c": "2"})
    same(owners(forced), {"one": ["f:a"], "two": ["f:b", "f:c"]})
    # What its only owner leaves out goes away.
    same(apply_map("two", {"c": "2"})["data"], {"a": "1", "c": "2"})

    body = client.ApiClient().sanitize_for_serialization(deployment("web", 2))
    body |= {"apiVersion": "apps/v1", "kind": "Deployment"}
    made = deployments.server_side_apply(body, namespace="default", field_manager="one")
    same((made.spec.replicas, made.spec.strategy.type), (2, "RollingUpdate"))
    same([(entry.manager, entry.operation) for entry in made.metadata.managedFields], [("one", "Apply")])
    entry = made.metadata.managedFields[0].to_dict()["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    same(sorted(entry['k:{"name":"nginx"}']), [".", "f:image", "f:name", "f:ports", "f:resources"])
    del body["spec"]["replicas"]
    scaled = deployments.patch({"spec": {"replicas": 6}}, name="web", namespace="default",
                               content_type="application/merge-patch+json")
    same(scaled.spec.replicas, 6)
    same(deployments.server_side_apply(body, namespace="default", field_manager="one").spec.replicas, 6)
    event = next(deployments.watch(namespace="default", timeout=30))
    same((event["type"], event["object"].metadata.name, event["object"].spec.replicas), ("ADDED", "web", 6))


def errors():
    missing = refused(404, "NotFound", core.read_namespaced_config_map, "none", "default")
    same(missing["message"], 'configmaps "none" not found')
    same(missing["details"], {"name": "none", "kind": "configmaps"})
    refused(404, "NotFound", apps.delete_namespaced_deployment, "none", "default")
    missing = refused(404, "NotFound", core.create_namespaced_config_map, "nowhere", config_map("c", {}))
    same(missing["message"], 'namespaces "nowhere" not found')

    made = core.create_namespaced_config_map("default", config_map("c", {"a": "1"}))
    exists = refused(409, "AlreadyExists", core.create_namespaced_config_map, "default", config_map("c", {}))
    same(exists["message"], 'configmaps "c" already exists')
    core.patch_namespaced_config_map("c", "default", {"data": {"a": "2"}})
    made.data = {"a": "3"}
    stale = refused(409, "Conflict", core.replace_namespaced_config_map, "c", "default", made)
    same(stale["message"], 'Operation cannot be fulfilled on configmaps "c": the object has been modified; '
                           "please apply your changes to the latest version and try again")
    other = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="other"))
    refused(409, "Conflict", core.delete_namespaced_config_map, "c", "default", body=other)

    invalid = refused(422, "Invalid", core.create_namespaced_config_map, "default", config_map("C_", {"a/b": "1"}))
    same((invalid["details"]["name"], invalid["details"]["kind"]), ("C_", "ConfigMap"))
    same([(cause["reason"], cause["field"]) for cause in invalid["details"]["causes"]],
         [("FieldValueInvalid", "metadata.name"), ("FieldValueInvalid", "data[a/b]")])
    invalid = refused(422, "Invalid", apps.create_namespaced_deployment, "default",
                      deployment("web", -1, {"app": "other"}))
    same((invalid["details"]["group"], invalid["details"]["kind"]), ("apps", "Deployment"))
    same([(cause["reason"], cause["field"]) for cause in invalid["details"]["causes"]],
         [("FieldValueInvalid", "spec.replicas"), ("FieldValueInvalid", "spec.template.metadata.labels")])
    assert invalid["message"].startswith('Deployment.apps "web" is invalid: ['), invalid["message"]
    apps.create_namespaced_deployment("default", deployment("web", 1))
    fixed = refused(422, "Invalid", apps.patch_namespaced_deployment, "web", "default",
                    {"spec": {"selector": {"matchLabels": {"more": "x"}}, "template": {"metadata": {"labels": {"more": "x"}}}}})
    assert "field is immutable" in fixed["message"], fixed["message"]

    refused(400, "BadRequest", core.list_namespaced_config_map, "default", label_selector="a in")

    # What the typed client would not send, the dynamic one does; and it has a class for each error.
    maps = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")

    def create(body, validation):
        return maps.create(body, namespace="default", query_params=[("fieldValidation", validation)])

    unknown = {"metadata": {"name": "u"}, "dat": {}}
    strict = refused(400, "BadRequest", create, unknown, "Strict")
    same(strict["message"], 'ConfigMap in version "v1" cannot be handled as a ConfigMap: '
                            'strict decoding error: unknown field "dat"')
    same(create(unknown, "Ignore").to_dict().get("dat"), None)
    wrong = refused(400, "BadRequest", create, {"metadata": {"name": "w"}, "data": {"a": 1}}, "Ignore")
    same(wrong["message"], 'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal '
                           "number into Go struct field ConfigMap.data of type string")
    for call, expected in [
        (lambda: maps.get(name="none", namespace="default"), dynamic.exceptions.NotFoundError),
        (lambda: maps.create({"metadata": {"name": "c"}}, namespace="default"), dynamic.exceptions.ConflictError),
        (lambda: maps.create({"metadata": {"name": "C_"}}, namespace="default"),
         dynamic.exceptions.UnprocessibleEntityError),
    ]:
        try:
            call()
        except expected:
            continue
        raise AssertionError(f"no {expected}")


def pages():
    names = [f"c{number:02}" for number in range(25)]
    for name in names:
        core.create_namespaced_config_map("default", config_map(name, {}, labels={"paged": "yes"}))

    found, sizes, versions, left, token = [], [], set(), [], None
    while True:
        page = core.list_namespaced_config_map("default", limit=10, _continue=token)
        if not found:
            # What is made after the first page is not in the next ones.
            core.create_namespaced_config_map("default", config_map("late", {}))
        found += [item.metadata.name for item in page.items]
        sizes.append(len(page.items))
        versions.add(page.metadata.resource_version)
        left.append(page.metadata.remaining_item_count)
        token = page.metadata._continue
        if not token:
            break
    same([name for name in found if name.startswith("c")], names)
    assert "late" not in found, found
    same((sizes[:-1], len(versions)), ([10, 10], 1))
    same(left, [len(found) - 10, len(found) - 20, None])

    picked = core.list_namespaced_config_map("default", limit=10, label_selector="paged=yes")
    same((len(picked.items), picked.metadata.remaining_item_count), (10, None))
    rest = core.list_namespaced_config_map("default", limit=100, label_selector="paged=yes",
                                           _continue=picked.metadata._continue)
    same([item.metadata.name for item in picked.items + rest.items], names)
    refused(400, "BadRequest", core.list_namespaced_config_map, "default", limit=10, _continue="nonsense")


CHAPTERS = {"objects": objects, "watch": watching, "apply": apply, "errors": errors, "pages": pages}
CHAPTERS[sys.argv[1]]()
print(f"{sys.argv[1]} is told")
