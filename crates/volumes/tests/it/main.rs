//! Volumes on a real disk. Some are mounts, so these tests run as root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use api_codec::json;
use api_schema::Value;
use expect_test::{Expect, expect};
use volumes::{Objects, PodVolumes, Ready};

fn parse(text: &str) -> Value {
    json::decode(None, text.as_bytes(), json::Options::default()).expect("JSON").value
}

/// Objects by kind and name, as JSON.
#[derive(Default)]
struct World(Mutex<BTreeMap<(&'static str, String), Arc<Value>>>);

impl World {
    fn set(&self, kind: &'static str, name: &str, json: &str) {
        self.0.lock().expect("lock").insert((kind, name.to_owned()), Arc::new(parse(json)));
    }
    fn get(&self, kind: &'static str, name: &str) -> Option<Arc<Value>> {
        self.0.lock().expect("lock").get(&(kind, name.to_owned())).cloned()
    }
}

impl Objects for World {
    fn config_map(&self, name: &str) -> Option<Arc<Value>> {
        self.get("ConfigMap", name)
    }
    fn secret(&self, name: &str) -> Option<Arc<Value>> {
        self.get("Secret", name)
    }
    fn claim(&self, name: &str) -> Option<Arc<Value>> {
        self.get("Claim", name)
    }
    fn persistent_volume(&self, name: &str) -> Option<Arc<Value>> {
        self.get("Volume", name)
    }
    fn field(&self, path: &str) -> Result<String, String> {
        Ok(format!("<{path}>"))
    }
    fn resource(&self, reference: &Value) -> Result<String, String> {
        Ok(format!("<{}>", reference.str_at(&["resource"])))
    }
    fn token(&self, audience: &str, expiration_seconds: i64) -> Result<String, String> {
        Ok(format!("token for {audience:?}, {expiration_seconds} s"))
    }
    fn trust_bundle(&self, _: &Value) -> Result<Vec<u8>, String> {
        Err("there are none".to_owned())
    }
}

/// A Pod's folder that is taken down whatever happens.
struct Fixture {
    folder: tempfile::TempDir,
    volumes: PodVolumes,
    world: World,
}

impl Fixture {
    fn new() -> Fixture {
        assert!(rustix::process::geteuid().is_root(), "these tests mount file systems and run as root");
        let folder = tempfile::tempdir().expect("a folder");
        let volumes = PodVolumes::new(folder.path().join("pod"));
        Fixture { folder, volumes, world: World::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set_up(&self, spec: &str) -> Result<BTreeMap<String, Ready>, String> {
        let pod = Value::from([("spec", parse(spec))]);
        self.volumes.set_up(&pod, &self.world).map_err(|error| error.to_string())
    }

    fn one(&self, spec: &str) -> Ready {
        self.set_up(spec).expect("volumes").into_values().next().expect("one volume")
    }

    fn fails(&self, spec: &str, expected: Expect) {
        let error = self.set_up(spec).expect_err("an error");
        expected.assert_eq(&error.replace(&self.folder.path().display().to_string(), "$DIR"));
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.volumes.tear_down().expect("tear down");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&self.folder.path().display().to_string()), "a mount is left:\n{mounts}");
        assert!(!self.path("pod/volumes").exists());
    }
}

/// The files that a reader sees: name, permissions, owner and content; links resolved.
fn tree(folder: &Path) -> String {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("read").flatten() {
            if entry.file_name().to_string_lossy().starts_with("..") {
                continue;
            }
            let path = entry.path();
            let metadata = fs::metadata(&path).expect("metadata");
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("within").display().to_string();
            let content = String::from_utf8_lossy(&fs::read(&path).expect("read")).into_owned();
            lines.push(format!(
                "{name} {:o} {}:{} {content}",
                metadata.mode() & 0o7777,
                metadata.uid(),
                metadata.gid()
            ));
        }
    }
    lines.sort();
    lines.join("\n")
}

fn is_tmpfs(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    mounts.lines().any(|line| line.contains(&format!(" {} ", path.display())) && line.contains(" - tmpfs "))
}

#[test]
fn config_maps_are_files_that_follow_it() {
    let fixture = Fixture::new();
    fixture.world.set("ConfigMap", "c", r#"{"data":{"a":"1","b":"2"},"binaryData":{"c":"AAE="}}"#);
    let spec = r#"{"volumes":[{"name":"v","configMap":{"name":"c"}}]}"#;
    let ready = fixture.one(spec);
    assert!(ready.read_only);
    expect!["a 644 0:0 1\nb 644 0:0 2\nc 644 0:0 \0\u{1}"].assert_eq(&tree(&ready.path));
    let before = fs::read_link(ready.path.join("..data")).expect("a link");

    fixture.one(spec);
    assert_eq!(
        fs::read_link(ready.path.join("..data")).expect("a link"),
        before,
        "nothing changed, nothing is written"
    );

    fixture.world.set("ConfigMap", "c", r#"{"data":{"b":"3","d":"4"}}"#);
    fixture.one(spec);
    expect![[r#"
        b 644 0:0 3
        d 644 0:0 4"#]]
    .assert_eq(&tree(&ready.path));
    let folders = fs::read_dir(&ready.path).expect("read").flatten();
    let old = folders.filter(|entry| entry.file_name().to_string_lossy().starts_with("..2")).count();
    assert_eq!(old, 1, "the folder of before is gone");
}

#[test]
fn keys_can_be_picked_and_moved() {
    let fixture = Fixture::new();
    fixture.world.set("ConfigMap", "c", r#"{"data":{"a":"1","b":"2"}}"#);
    let ready = fixture.one(r#"{"volumes":[{"name":"v","configMap":{"name":"c","defaultMode":256,"items":[{"key":"a","path":"deep/er/x"},{"key":"b","path":"y","mode":511}]}}]}"#);
    expect![[r#"
        deep/er/x 400 0:0 1
        y 777 0:0 2"#]]
    .assert_eq(&tree(&ready.path));
    fixture.fails(
        r#"{"volumes":[{"name":"v","configMap":{"name":"c","items":[{"key":"no","path":"x"}]}}]}"#,
        expect![[r#"MountVolume.SetUp failed for volume "v" : configmap references non-existent configmap key: no"#]],
    );
    fixture.fails(
        r#"{"volumes":[{"name":"v","configMap":{"name":"c","items":[{"key":"a","path":"../../etc/x"}]}}]}"#,
        expect![[
            r#"MountVolume.SetUp failed for volume "v" : invalid path "../../etc/x": it must not start with '..'"#
        ]],
    );
    fixture.fails(
        r#"{"volumes":[{"name":"v","configMap":{"name":"none"}}]}"#,
        expect![[r#"MountVolume.SetUp failed for volume "v" : configmap "none" not found"#]],
    );
    assert_eq!(
        tree(&fixture.one(r#"{"volumes":[{"name":"w","configMap":{"name":"none","optional":true}}]}"#).path),
        ""
    );
}

#[test]
fn secrets_are_in_memory_and_the_groups() {
    let fixture = Fixture::new();
    fixture.world.set("Secret", "s", r#"{"data":{"p":"c2VzYW1l"}}"#);
    let ready = fixture.one(
        r#"{"securityContext":{"fsGroup":77},"volumes":[{"name":"v","secret":{"secretName":"s","defaultMode":256}}]}"#,
    );
    assert!(is_tmpfs(&ready.path));
    expect!["p 440 0:77 sesame"].assert_eq(&tree(&ready.path));
    fixture.fails(
        r#"{"volumes":[{"name":"v","secret":{"secretName":"none"}}]}"#,
        expect![[r#"MountVolume.SetUp failed for volume "v" : secret "none" not found"#]],
    );
}

#[test]
fn projected_volumes_join_their_sources() {
    let fixture = Fixture::new();
    fixture.world.set("ConfigMap", "kube-root-ca.crt", r#"{"data":{"ca.crt":"CA"}}"#);
    let sources = r#"[{"serviceAccountToken":{"path":"token","expirationSeconds":3607}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"fieldPath":"metadata.namespace"}}]}}]"#;
    let volume = format!(r#""volumes":[{{"name":"v","projected":{{"defaultMode":420,"sources":{sources}}}}}]"#);
    let ready = fixture.one(&format!("{{{volume}}}"));
    expect![[r#"
        ca.crt 644 0:0 CA
        namespace 644 0:0 <metadata.namespace>
        token 644 0:0 token for "", 3607 s"#]]
    .assert_eq(&tree(&ready.path));
    assert!(is_tmpfs(&ready.path));
    drop(fixture);

    let check = |context: &str, expected: Expect| {
        let fixture = Fixture::new();
        fixture.world.set("ConfigMap", "kube-root-ca.crt", r#"{"data":{"ca.crt":"CA"}}"#);
        let ready = fixture.one(&format!(r#"{{{context},{volume}}}"#));
        let token = tree(&ready.path).lines().find(|line| line.starts_with("token")).expect("a token").to_owned();
        expected.assert_eq(token.rsplit_once(" token").expect("content").0);
    };
    check(r#""securityContext":{"fsGroup":77},"containers":[{"name":"a"}]"#, expect!["token 640 0:77"]);
    check(r#""securityContext":{"runAsUser":5},"containers":[{"name":"a"}]"#, expect!["token 600 5:0"]);
    check(
        r#""securityContext":{"runAsUser":5},"containers":[{"name":"a","securityContext":{"runAsUser":6}},{"name":"b"}]"#,
        expect!["token 644 0:0"],
    );
}

#[test]
fn empty_dirs_keep_what_is_in_them() {
    let fixture = Fixture::new();
    let spec = r#"{"securityContext":{"fsGroup":77},"volumes":[{"name":"v","emptyDir":{}}]}"#;
    let ready = fixture.one(spec);
    let metadata = fs::metadata(&ready.path).expect("metadata");
    assert_eq!((metadata.mode() & 0o7777, metadata.gid(), ready.read_only), (0o2777, 77, false));
    fs::write(ready.path.join("kept"), "x").expect("write");
    fixture.one(spec);
    expect!["kept 664 0:77 x"].assert_eq(&tree(&ready.path));

    let memory = Fixture::new();
    let ready = memory.one(r#"{"volumes":[{"name":"v","emptyDir":{"medium":"Memory","sizeLimit":"1Mi"}}]}"#);
    assert!(is_tmpfs(&ready.path));
    let error = fs::write(ready.path.join("large"), vec![0; 2 << 20]).expect_err("it is full");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn host_paths_are_what_they_say() {
    let fixture = Fixture::new();
    fs::write(fixture.path("file"), "").expect("write");
    fs::create_dir(fixture.path("folder")).expect("create");
    let _socket = std::os::unix::net::UnixListener::bind(fixture.path("socket")).expect("bind");
    let check = |name: &str, kind: &str, expected: Expect| {
        let path = if name.starts_with('/') { name.into() } else { fixture.path(name) };
        let spec =
            format!(r#"{{"volumes":[{{"name":"v","hostPath":{{"path":"{}","type":"{kind}"}}}}]}}"#, path.display());
        let shown = fixture.set_up(&spec).map_or_else(|error| error, |_| "ready".to_owned());
        let shown = shown.replace(r#"MountVolume.SetUp failed for volume "v" : "#, "");
        expected.assert_eq(&shown.replace(&fixture.folder.path().display().to_string(), "$DIR"));
    };
    check("none", "", expect!["ready"]);
    check("folder", "Directory", expect!["ready"]);
    check("file", "Directory", expect!["hostPath type check failed: $DIR/file is not a directory"]);
    check("none", "Directory", expect!["hostPath type check failed: $DIR/none is not a directory"]);
    check("a/b", "DirectoryOrCreate", expect!["ready"]);
    check("file", "File", expect!["ready"]);
    check("folder", "FileOrCreate", expect!["hostPath type check failed: $DIR/folder is not a file"]);
    check("new", "FileOrCreate", expect!["ready"]);
    check("socket", "Socket", expect!["ready"]);
    check("file", "Socket", expect!["hostPath type check failed: $DIR/file is not a socket file"]);
    check("/dev/null", "CharDevice", expect!["ready"]);
    check("/dev/null", "BlockDevice", expect!["hostPath type check failed: /dev/null is not a block device"]);
    assert!(fixture.path("a/b").is_dir() && fixture.path("new").is_file());
}

#[test]
fn claims_lead_to_their_volumes() {
    let fixture = Fixture::new();
    let spec =
        r#"{"securityContext":{"fsGroup":77},"volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"c"}}]}"#;
    fixture.fails(spec, expect![[r#"MountVolume.SetUp failed for volume "v" : persistentvolumeclaim "c" not found"#]]);
    fixture.world.set("Claim", "c", r#"{"metadata":{"uid":"1"},"status":{"phase":"Pending"}}"#);
    fixture.fails(spec, expect![[r#"MountVolume.SetUp failed for volume "v" : PVC is not bound"#]]);
    fixture.world.set(
        "Claim",
        "c",
        r#"{"metadata":{"uid":"1"},"spec":{"volumeName":"pv"},"status":{"phase":"Bound"}}"#,
    );
    fixture.fails(spec, expect![[r#"MountVolume.SetUp failed for volume "v" : persistentvolume "pv" not found"#]]);
    let volume = |uid: &str, source: &str| {
        let json = format!(r#"{{"spec":{{"claimRef":{{"uid":"{uid}"}},{source}}}}}"#);
        fixture.world.set("Volume", "pv", &json);
    };
    volume("2", r#""hostPath":{"path":"/"}"#);
    fixture.fails(spec, expect![[r#"MountVolume.SetUp failed for volume "v" : PV pv is bound to a different PVC"#]]);
    let disk = fixture.path("disk");
    volume("1", &format!(r#""local":{{"path":"{}"}}"#, disk.display()));
    fixture.fails(spec, expect![[r#"MountVolume.SetUp failed for volume "v" : path "$DIR/disk" does not exist"#]]);
    fs::create_dir(&disk).expect("create");
    let ready = fixture.one(spec);
    assert_eq!((ready.path.clone(), fs::metadata(&disk).expect("metadata").gid()), (disk.clone(), 77));
    drop(fixture);
}

#[test]
fn sub_paths_never_leave_their_volume() {
    let fixture = Fixture::new();
    let ready = fixture.one(r#"{"volumes":[{"name":"v","emptyDir":{}}]}"#);
    fs::create_dir(fixture.path("outside")).expect("create");
    fs::write(fixture.path("outside/secret"), "x").expect("write");
    symlink(fixture.path("outside"), ready.path.join("absolute")).expect("link");
    symlink("../../../../outside", ready.path.join("relative")).expect("link");
    symlink("inner", ready.path.join("good")).expect("link");
    fs::create_dir(ready.path.join("inner")).expect("create");
    fs::write(ready.path.join("file"), "content").expect("write");

    let sub = |path: &str| fixture.volumes.sub_path(&ready, "v", "c", 0, path);
    let made = sub("new/deep").expect("made");
    fs::write(made.join("x"), "1").expect("write");
    assert!(ready.path.join("new/deep/x").exists());
    let file = sub("file").expect("a file");
    assert_eq!(fs::read_to_string(file).expect("read"), "content");
    let good = sub("good").expect("a link within");
    fs::write(good.join("y"), "2").expect("write");
    assert!(ready.path.join("inner/y").exists());
    for bad in ["../outside", "/etc", "a/../../outside"] {
        let error = sub(bad).expect_err(bad);
        assert_eq!(error, format!("subpath {bad:?} not within volume path"));
    }
    // A link to the outside is read from the volume's own root, so that it leads nowhere.
    for link in ["absolute/secret", "relative/secret"] {
        let reached = sub(link).ok().and_then(|path| fs::read_to_string(path).ok());
        assert_eq!(reached, None, "{link}");
    }
    assert_eq!(fs::metadata(fixture.path("outside/secret")).expect("metadata").permissions().mode() & 0o777, 0o644);
}
