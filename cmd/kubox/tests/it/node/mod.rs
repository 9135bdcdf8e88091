//! `kubox node` with real kernels, containers and kubectl: what a user of one node sees.

mod world;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use self::world::{Engine, World, eventually, on_a_machine};
use crate::harness::{KUBOX, run};

const WEB: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {a: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: safe}
stringData: {p: hush}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 20
  initContainers:
  - name: init
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo from-init > /work/x"]
    volumeMounts: [{name: work, mountPath: /work}]
  containers:
  - name: a
    image: busybox
    imagePullPolicy: IfNotPresent
    command:
    - sh
    - -c
    - |
      echo "$FOO $NAME $A $P"; echo oops >&2
      httpd -f -p 8080 -h /work & wait
    env:
    - {name: FOO, value: bar}
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: A, valueFrom: {configMapKeyRef: {name: conf, key: a}}}
    - {name: P, valueFrom: {secretKeyRef: {name: safe, key: p}}}
    ports: [{containerPort: 8080, hostPort: 18080}]
    startupProbe: {exec: {command: [cat, /work/x]}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /x, port: 8080}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 2, failureThreshold: 20}
    lifecycle: {preStop: {exec: {command: [sh, -c, "echo prestop > /proc/1/fd/1; kill -9 1"]}}}
    resources: {requests: {cpu: 100m, memory: 16Mi}, limits: {memory: 64Mi}}
    volumeMounts:
    - {name: work, mountPath: /work}
    - {name: conf, mountPath: /conf}
    - {name: safe, mountPath: /safe, readOnly: true}
    - {name: down, mountPath: /down}
  volumes:
  - {name: work, emptyDir: {}}
  - {name: conf, configMap: {name: conf}}
  - {name: safe, secret: {secretName: safe}}
  - {name: down, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
"#;

/// What a script in the container `web` says.
const SEEN_INSIDE: &[(&str, &str)] = &[
    ("cat /work/x", "from-init\n"),
    ("cat /conf/a", "hello"),
    ("cat /safe/p", "hush"),
    ("cat /down/labels", "app=\"web\""),
    ("hostname", "web\n"),
    ("cat /var/run/secrets/kubernetes.io/serviceaccount/namespace", "default"),
    ("cut -d. -f2 /var/run/secrets/kubernetes.io/serviceaccount/token | wc -l", "1\n"),
    ("wget -qO- http://127.0.0.1:8080/x", "from-init\n"),
    ("touch /safe/q 2>/dev/null || echo refused", "refused\n"),
];

/// A Pod becomes ready and does what it is told, and every verb of kubectl that reaches into it works.
fn a_pod_is_used(world: &World) {
    world.apply(WEB);
    world.ready("pod/web");
    for (script, expected) in SEEN_INSIDE {
        assert_eq!(world.shell("web -c a", script), *expected, "{script}");
    }
    let pod = world.pod("web");
    assert_eq!(pod["status"]["phase"], "Running");
    assert_eq!(pod["status"]["qosClass"], "Burstable");
    assert_eq!(pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    let ip = pod["status"]["podIP"].as_str().expect("an address").to_owned();

    let logs = world.ok("logs web");
    assert!(logs.contains("bar web hello hush\n") && logs.contains("oops\n"), "{logs}");
    assert_eq!(world.ok("logs web --tail=1").lines().count(), 1);
    let stamped = world.ok("logs web --timestamps --limit-bytes=20");
    assert!(stamped.len() == 20 && stamped.starts_with("20") && stamped.contains('T'), "{stamped}");

    let exit =
        run(world.command(["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).stdin(Stdio::null()));
    assert!(!exit.0 && exit.1 == "out\n" && exit.2.contains("err\n") && exit.2.contains("exit code 7"), "{exit:?}");
    let (code, out, complaint) =
        World::fed(world.command(["exec", "-i", "web", "--", "wc", "-c"]), &"x".repeat(100_000));
    assert_eq!((code, out.trim()), (Some(0), "100000"), "{complaint}");

    let file = "some text\n".repeat(5000);
    std::fs::write(world.dir.join("there"), &file).expect("write");
    world.ok("cp there web:/tmp/there");
    world.ok("cp web:/tmp/there back");
    assert_eq!(std::fs::read_to_string(world.dir.join("back")).expect("it came back"), file);

    let from = |url: String| {
        let (_, page, complaint) = run(Command::new("/bin/busybox").args(["wget", "-qO-", &url]));
        assert_eq!(page, "from-init\n", "{url}: {complaint}");
    };
    from(format!("http://{ip}:8080/x"));
    from("http://10.99.0.1:18080/x".to_owned());
    let mut forward = world.command(["port-forward", "web", ":8080"]).stdout(Stdio::piped()).spawn().expect("kubectl");
    // kubectl ends when it cannot write any more.
    let mut said = BufReader::new(forward.stdout.take().expect("piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("it says where it listens");
    let port = line.trim_start_matches("Forwarding from 127.0.0.1:").split(' ').next().unwrap_or_default();
    from(format!("http://127.0.0.1:{port}/x"));
    forward.kill().expect("kill");
    forward.wait().expect("wait");
}

const CAT: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: cat}
spec:
  nodeName: n1
  restartPolicy: Never
  containers:
  - {name: c, image: busybox, imagePullPolicy: IfNotPresent, stdin: true, stdinOnce: true,
     command: [sh, -c, "read word; echo got $word"]}
"#;

/// Who attaches speaks to the process itself.
fn a_pod_is_attached_to(world: &World) {
    world.apply(CAT);
    world.ready("pod/cat");
    let (_, out, complaint) = World::fed(world.command(["attach", "-i", "cat"]), "word\n");
    world.waits("cat", ".status.phase", "Succeeded");
    assert!(world.ok("logs cat").contains("got word\n"), "{out}{complaint}");
}

#[test]
fn a_pod_is_used_with_kubectl_1_28() {
    on_a_machine(Engine::Embedded, 28, |world| {
        a_pod_is_used(world);
        a_pod_is_attached_to(world);
    });
}

#[test]
fn a_pod_is_used_with_the_newest_kubectl() {
    on_a_machine(Engine::Embedded, 37, |world| {
        a_pod_is_used(world);
        a_pod_is_attached_to(world);
    });
}

#[test]
fn a_pod_is_used_with_containerd() {
    on_a_machine(Engine::Containerd, 28, |world| a_pod_is_used(world));
}

/// A Pod of one container that runs a shell; `more` are further fields of the container, `spec` of the Pod.
fn pod(name: &str, script: &str, more: &str, spec: &str) -> String {
    let script = serde_json::to_string(script).unwrap_or_default();
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: n1, \
         terminationGracePeriodSeconds: 1, {spec} containers: [{{name: c, image: busybox, imagePullPolicy: \
         IfNotPresent, {more} command: [sh, -c, {script}]}}]}}\n"
    )
}

#[test]
fn pods_that_fail_say_why() {
    on_a_machine(Engine::Embedded, 37, |world| {
        let waiting = ".status.containerStatuses[*].state.waiting.reason";
        let ended = ".status.containerStatuses[*].state.terminated.reason";
        let from_map = "env: [{name: A, valueFrom: {configMapKeyRef: {name: late, key: a}}}],";
        let liveness = "livenessProbe: {exec: {command: [\"false\"]}, periodSeconds: 1, failureThreshold: 1},";
        let big = "resources: {requests: {cpu: \"1000\"}},";
        // The Pod, and what becomes true of it.
        let stories = [
            (pod("crash", "echo bye > /dev/termination-log; exit 3", "", ""), waiting, "CrashLoopBackOff"),
            (pod("noimage", "", "", "").replace("busybox", "localhost:1/none:1"), waiting, "ImagePullBackOff"),
            (pod("badname", "", "", "").replace("busybox", "UPPER"), waiting, "InvalidImageName"),
            (pod("nomap", "echo $A; sleep 1000", from_map, ""), waiting, "CreateContainerConfigError"),
            (pod("done", "echo fine", "", "restartPolicy: Never,"), ".status.phase", "Succeeded"),
            (pod("failed", "exit 5", "", "restartPolicy: Never,"), ".status.phase", "Failed"),
            (pod("fails", "exit 5", "", "restartPolicy: Never,"), ended, "Error"),
            (pod("sick", "sleep 1000", liveness, ""), ".status.containerStatuses[*].restartCount", "1"),
            (pod("big", "", big, ""), ".status.reason", "OutOfcpu"),
            (pod("late", "sleep 1000", "", "activeDeadlineSeconds: 1,"), ".status.reason", "DeadlineExceeded"),
        ];
        world.apply(&stories.iter().map(|(yaml, ..)| yaml.as_str()).collect::<String>());
        for (yaml, path, value) in &stories {
            let name =
                yaml.split_once("{name: ").and_then(|(_, rest)| rest.split_once('}')).map_or("", |(name, _)| name);
            world.waits(name, path, value);
        }
        let crash = world.pod("crash");
        let last = &crash["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!((&last["message"], &last["exitCode"]), (&"bye\n".into(), &3.into()), "{crash:#}");
        assert_eq!(world.ok("logs done"), "fine\n");
        assert_eq!(world.pod("failed")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 5);
        // What was missing comes, and the Pod starts.
        world.ok("create configmap late --from-literal=a=now");
        world.ready("pod/nomap");
        assert_eq!(world.ok("logs nomap"), "now\n");
        for (pod, reason) in [("crash", "BackOff"), ("noimage", "Failed"), ("sick", "Unhealthy"), ("sick", "Killing")] {
            let query = format!("get events --field-selector=involvedObject.name={pod},reason={reason} -o name");
            eventually("the event", || {
                world.kubectl(&query).and_then(|out| if out.is_empty() { Err(out) } else { Ok(()) })
            });
        }
    });
}

#[test]
fn pods_outlive_the_node_agent() {
    on_a_machine(Engine::Embedded, 37, |world| {
        let count = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
        world.apply(
            &[
                pod("stays", count, "", ""),
                pod("goes", count, "", ""),
                pod(
                    "ends",
                    "cat /go || true; while [ ! -e /go ]; do sleep 0.1; done; exit 4",
                    "",
                    "restartPolicy: Never,",
                ),
            ]
            .concat(),
        );
        world.ready("pod/stays pod/goes pod/ends");
        let before = world.pod("stays");
        let pid = |world: &World| world.shell("stays", "echo $PPID; cat /proc/1/stat | cut -d' ' -f22");
        let process = pid(world);
        world.kill_node();
        // While nobody looks, one Pod is deleted, and the log goes on.
        world.ok("delete pod goes --wait=false");
        world.start_node();
        world.ok("wait --for=delete pod/goes --timeout=120s");
        world.ready("pod/stays");
        assert_eq!(pid(world), process, "the process was not started again");
        let after = world.pod("stays");
        for path in [
            "/status/containerStatuses/0/containerID",
            "/status/containerStatuses/0/state",
            "/status/podIP",
            "/status/startTime",
            "/status/containerStatuses/0/restartCount",
        ] {
            assert_eq!(after.pointer(path), before.pointer(path), "{path}");
        }
        let logs = world.ok("logs stays");
        let expected: String = (0..logs.lines().count()).map(|line| format!("{line}\n")).collect();
        assert_eq!(logs, expected, "no line is lost and none is twice");
        world.shell("ends", "touch /go");
        world.waits("ends", ".status.containerStatuses[*].state.terminated.exitCode", "4");
    });
}

#[test]
fn images_and_containers_are_listed_while_the_node_runs() {
    on_a_machine(Engine::Embedded, 37, |world| {
        let kubox = |words: &str| {
            let socket = format!("--runtime-endpoint=unix://{}", world.dir.join("run/cri.sock").display());
            let mut command = Command::new(KUBOX);
            command.args(words.split(' ')).arg(socket).current_dir(&world.dir);
            run(&mut command)
        };
        let good = |words: &str| {
            let (good, out, complaint) = kubox(words);
            assert!(good, "kubox {words}: {complaint}{out}");
            out
        };
        world::image(&world.dir, &world.dir.join("other.tar"), "example.com/other:1", &["sh"]);
        assert_eq!(good("image import other.tar --image-dir=images"), "example.com/other:1\n");
        let list = good("image ls");
        assert!(list.contains("docker.io/library/busybox") && list.contains("example.com/other"), "{list}");
        world.apply(&pod("one", "sleep 1000", "", ""));
        world.ready("pod/one");
        let containers = good("ps");
        assert!(containers.contains("Running") && containers.contains("one"), "{containers}");
        // Imported images are pinned: nobody could pull them again.
        assert_eq!(good("image prune"), "");
        assert_eq!(good("image rm example.com/other:1"), "Deleted: example.com/other:1\n");
        let list = good("image ls");
        assert!(!list.contains("example.com/other"), "{list}");
        std::fs::write(world.dir.join("broken.tar"), "no archive").expect("write");
        // The command, and what it complains of.
        let refused = [
            ("image rm example.com/other:1", "no such image"),
            ("image import broken.tar --image-dir=images", "import broken.tar"),
            ("image pull", "names are missing"),
            ("image ls more", "takes no names"),
            ("image pull localhost:1/none:1", "pull localhost:1/none:1"),
        ];
        for (words, expected) in refused {
            let (good, out, complaint) = kubox(words);
            assert!(!good && complaint.contains(expected), "kubox {words}: {complaint}{out}");
        }
        let left: Vec<_> = std::fs::read_dir(world.dir.join("images")).expect("the folder").flatten().collect();
        assert_eq!(left.len(), 2, "nothing is left of what was refused: {left:?}");
    });
}
