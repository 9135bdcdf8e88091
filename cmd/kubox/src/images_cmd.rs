//! `kubox image` and `kubox ps`: what the node's runtime has, asked over its socket while the node runs.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use cri::{GrpcClient, ImageService as _, RuntimeService as _, v1};

use crate::flags::{self, Command, Flag, Form, Given, Section, Verdict};

/// The socket in the node's `--run-dir`.
pub(crate) const SOCKET: &str = "cri.sock";
/// How long the node may take to import an archive that it has been given.
const IMPORT_TIME_MAX: Duration = Duration::from_secs(600);
/// How often it is asked whether it has.
const IMPORT_PERIOD: Duration = Duration::from_millis(100);
/// Characters of an id that are shown, as crictl does.
const ID_SHOWN: usize = 13;

const USAGE: &str = "The images of the node's container runtime.

Usage: kubox image import FILE...    take images from archives (docker save, OCI layouts)
       kubox image pull NAME...      fetch images from their registries
       kubox image ls                list the images
       kubox image rm NAME...        remove images
       kubox image prune             remove the images that no container uses; imported ones stay

They need the node (or `kubox cri`) to run.";

const USAGE_PS: &str = "The containers of the node's container runtime.

Usage: kubox ps [--all] [flags]";

/// What the flags ask for.
struct Wanted {
    endpoint: String,
    image_dir: PathBuf,
    credentials: String,
    all: bool,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            endpoint: format!("unix:///run/kubox/{SOCKET}"),
            image_dir: PathBuf::from("/var/lib/kubox/archives"),
            credentials: String::new(),
            all: false,
        }
    }
}

const fn flag(
    name: &'static str,
    form: Form,
    help: &'static str,
    set: fn(&mut Wanted, &Given) -> Result<(), String>,
) -> Flag<Wanted> {
    Flag { name, form, help, verdict: Verdict::Honoured(set) }
}

const ENDPOINT: Flag<Wanted> =
    flag("runtime-endpoint", Form::Text, "the runtime's socket: cri.sock in the node's --run-dir", |w, given| {
        w.endpoint = given.text().to_owned();
        Ok(())
    });

const FLAGS: &[Section<Wanted>] = &[Section {
    title: "Flags",
    flags: &[
        ENDPOINT,
        flag("image-dir", Form::Text, "for import: the node's --image-dir", |w, given| {
            w.image_dir = PathBuf::from(given.text());
            Ok(())
        }),
        flag("creds", Form::Text, "for pull: user:password", |w, given| {
            w.credentials = given.text().to_owned();
            Ok(())
        }),
    ],
}];

const FLAGS_PS: &[Section<Wanted>] = &[Section {
    title: "Flags",
    flags: &[
        ENDPOINT,
        flag("all", Form::Bool, "also containers that have ended", |w, given| {
            w.all = given.bool();
            Ok(())
        }),
    ],
}];

/// Runs `kubox image`.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (flags, words) = apart(args, FLAGS);
    let Some(wanted) = wanted("kubox image", USAGE, FLAGS, &flags)? else { return Ok(()) };
    let client = GrpcClient::new(&wanted.endpoint).context("--runtime-endpoint")?;
    let verb = words.first().map(String::as_str).unwrap_or_default();
    let names = words.get(1..).unwrap_or_default();
    let is_alone = matches!(verb, "ls" | "prune");
    if is_alone != names.is_empty() {
        let what = if is_alone { "takes no names" } else { "names are missing" };
        bail!("kubox image {verb}: {what}; see `kubox image --help`");
    }
    wait(async {
        match verb {
            "import" => import(&client, &wanted.image_dir, names).await,
            "pull" => pull(&client, &wanted.credentials, names).await,
            "ls" => list(&client).await,
            "rm" => remove(&client, names).await,
            "prune" => prune(&client).await,
            other => bail!("unknown command {other:?} for \"kubox image\"; see `kubox image --help`"),
        }
    })
}

/// Runs `kubox ps`.
pub(crate) fn ps(args: &[String]) -> Result<()> {
    let args: Vec<String> = args.iter().map(|arg| if arg == "-a" { "--all".to_owned() } else { arg.clone() }).collect();
    let Some(wanted) = wanted("kubox ps", USAGE_PS, FLAGS_PS, &args)? else { return Ok(()) };
    let client = GrpcClient::new(&wanted.endpoint).context("--runtime-endpoint")?;
    wait(containers(&client, wanted.all))
}

fn wait(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(work)
}

/// Flags, with their values, and the other words.
fn apart(args: &[String], sections: &[Section<Wanted>]) -> (Vec<String>, Vec<String>) {
    let known = |name: &str| sections.iter().flat_map(|section| section.flags).any(|flag| flag.name == name);
    let (mut flags, mut words) = (Vec::new(), Vec::new());
    let mut args = args.iter().cloned();
    while let Some(arg) = args.next() {
        if !arg.starts_with('-') {
            words.push(arg);
            continue;
        }
        let takes_next = known(arg.trim_start_matches('-'));
        flags.push(arg);
        if takes_next {
            flags.extend(args.next());
        }
    }
    (flags, words)
}

/// What the flags say; nothing if they only asked for help.
fn wanted(program: &str, usage: &str, sections: &'static [Section<Wanted>], args: &[String]) -> Result<Option<Wanted>> {
    let mut wanted = Wanted::default();
    match flags::parse(program, sections, args, &mut wanted).map_err(|why| anyhow!(why))? {
        Command::Run => return Ok(Some(wanted)),
        Command::Help => print!("{}", flags::help(usage, sections)),
        Command::Version(form) => crate::server::print_version(&form)?,
    }
    Ok(None)
}

fn spec(name: &str) -> Option<v1::ImageSpec> {
    Some(v1::ImageSpec { image: name.to_owned(), ..v1::ImageSpec::default() })
}

async fn find(client: &GrpcClient, name: &str) -> Result<Option<v1::Image>> {
    let request = v1::ImageStatusRequest { image: spec(name), verbose: false };
    Ok(client.image_status(request).await.context("ask the runtime")?.image)
}

/// Puts archives into the folder from which the node imports, and waits until it has.
async fn import(client: &GrpcClient, folder: &Path, files: &[String]) -> Result<()> {
    // Not after the archive is copied.
    client.list_images(v1::ListImagesRequest::default()).await.context("ask the runtime")?;
    for file in files {
        let file = Path::new(file);
        let images = look_into(file, folder).await.with_context(|| format!("import {}", file.display()))?;
        let target = put(file, folder).with_context(|| format!("put {} into {}", file.display(), folder.display()))?;
        let done = tokio::time::timeout(IMPORT_TIME_MAX, async {
            for (id, names) in &images {
                let wanted: Vec<&str> =
                    if names.is_empty() { vec![id.as_str()] } else { names.iter().map(String::as_str).collect() };
                for name in wanted {
                    while find(client, name).await?.is_none_or(|image| image.id != *id) {
                        tokio::time::sleep(IMPORT_PERIOD).await;
                    }
                    println!("{name}");
                }
            }
            anyhow::Ok(())
        });
        done.await.map_err(|_| {
            anyhow!("the node has not imported {}; is {} its --image-dir?", target.display(), folder.display())
        })??;
    }
    Ok(())
}

/// The images of an archive, by id: it is read as the node will read it, so that what is wrong with it is told here.
async fn look_into(file: &Path, folder: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let scratch = folder.join(format!(".look-{}", std::process::id()));
    let result = async {
        let images = images::Images::open(images::Config::new(&scratch))?;
        images.import(file, images::ImportOptions::default()).await
    }
    .await;
    let removed = fs::remove_dir_all(&scratch);
    let found = result?.into_iter().map(|image| (image.id.to_string(), image.repo_tags)).collect();
    removed.with_context(|| format!("remove {}", scratch.display()))?;
    Ok(found)
}

/// Copies an archive into a folder: whoever looks sees nothing of it or all.
fn put(file: &Path, folder: &Path) -> Result<PathBuf> {
    let name = file.file_name().ok_or_else(|| anyhow!("it has no name"))?.to_string_lossy().into_owned();
    let name = if [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst"].iter().any(|end| name.ends_with(end)) {
        name
    } else {
        format!("{name}.tar")
    };
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let target = folder.join(name.trim_start_matches('.'));
    let copied = fs::copy(file, &draft).and_then(|_| fs::File::open(&draft)?.sync_all());
    if let Err(error) = copied.and_then(|()| fs::rename(&draft, &target)) {
        let _ = fs::remove_file(&draft);
        return Err(error.into());
    }
    Ok(target)
}

async fn pull(client: &GrpcClient, credentials: &str, names: &[String]) -> Result<()> {
    let auth = match credentials.split_once(':') {
        Some((username, password)) => {
            Some(v1::AuthConfig { username: username.into(), password: password.into(), ..v1::AuthConfig::default() })
        }
        None if credentials.is_empty() => None,
        None => bail!("--creds: user:password is wanted"),
    };
    for name in names {
        let request = v1::PullImageRequest { image: spec(name), auth: auth.clone(), sandbox_config: None };
        let answer = client.pull_image(request).await.with_context(|| format!("pull {name}"))?;
        println!("{}", answer.image_ref);
    }
    Ok(())
}

async fn list(client: &GrpcClient) -> Result<()> {
    let images = client.list_images(v1::ListImagesRequest::default()).await.context("ask the runtime")?.images;
    let mut rows = vec![["IMAGE", "TAG", "IMAGE ID", "SIZE"].map(str::to_owned)];
    for image in images {
        let id = short(&image.id);
        let size = size(image.size);
        if image.repo_tags.is_empty() {
            let name = image.repo_digests.first().and_then(|name| name.split('@').next()).unwrap_or("<none>");
            rows.push([name.to_owned(), "<none>".to_owned(), id.clone(), size.clone()]);
        }
        for name in &image.repo_tags {
            let (name, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            rows.push([name.to_owned(), tag.to_owned(), id.clone(), size.clone()]);
        }
    }
    if let Some((_, rest)) = rows.split_first_mut() {
        rest.sort();
    }
    print!("{}", table(&rows));
    Ok(())
}

async fn remove(client: &GrpcClient, names: &[String]) -> Result<()> {
    for name in names {
        // To the CRI, an image that is not there is no error; to a person it is a word misspelt.
        find(client, name).await?.ok_or_else(|| anyhow!("no such image {name:?}"))?;
        let request = v1::RemoveImageRequest { image: spec(name) };
        client.remove_image(request).await.with_context(|| format!("remove {name}"))?;
        println!("Deleted: {name}");
    }
    Ok(())
}

async fn prune(client: &GrpcClient) -> Result<()> {
    let containers = client.list_containers(v1::ListContainersRequest::default()).await.context("ask the runtime")?;
    let mut used: HashSet<String> = HashSet::new();
    for container in containers.containers {
        used.extend([container.image_ref, container.image_id]);
        used.extend(container.image.map(|image| image.image));
    }
    let images = client.list_images(v1::ListImagesRequest::default()).await.context("ask the runtime")?.images;
    for image in images.into_iter().filter(|image| !image.pinned) {
        let mut names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
        if names.any(|name| used.contains(name)) {
            continue;
        }
        let request = v1::RemoveImageRequest { image: spec(&image.id) };
        client.remove_image(request).await.with_context(|| format!("remove {}", image.id))?;
        println!("Deleted: {}", image.repo_tags.first().unwrap_or(&image.id));
    }
    Ok(())
}

async fn containers(client: &GrpcClient, all: bool) -> Result<()> {
    let pods = client.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.context("ask the runtime")?.items;
    let pods: HashMap<String, v1::PodSandbox> = pods.into_iter().map(|pod| (pod.id.clone(), pod)).collect();
    let found = client.list_containers(v1::ListContainersRequest::default()).await.context("ask the runtime")?;
    let mut found = found.containers;
    found.retain(|container| all || container.state() == v1::ContainerState::Running);
    found.sort_by_key(|container| std::cmp::Reverse(container.created_at));
    let mut rows = vec![["CONTAINER", "IMAGE", "STATE", "NAME", "ATTEMPT", "POD", "NAMESPACE"].map(str::to_owned)];
    for container in found {
        let pod = pods.get(&container.pod_sandbox_id).and_then(|pod| pod.metadata.clone()).unwrap_or_default();
        let state = match container.state() {
            v1::ContainerState::Created => "Created",
            v1::ContainerState::Running => "Running",
            v1::ContainerState::Exited => "Exited",
            v1::ContainerState::Unknown => "Unknown",
        };
        let (id, image) = (short(&container.id), short(&container.image.unwrap_or_default().image));
        let metadata = container.metadata.unwrap_or_default();
        let attempt = metadata.attempt.to_string();
        rows.push([id, image, state.to_owned(), metadata.name, attempt, pod.name, pod.namespace]);
    }
    print!("{}", table(&rows));
    Ok(())
}

/// The start of an id, without its algorithm; a name stays whole.
fn short(id: &str) -> String {
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    let is_id = bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { bare.chars().take(ID_SHOWN).collect() } else { id.to_owned() }
}

/// A size in decimal units, three digits of it.
fn size(bytes: u64) -> String {
    let (mut rest, mut unit) = (bytes, "B");
    let mut tenths = 0;
    for next in ["kB", "MB", "GB", "TB"] {
        if rest < 1000 {
            break;
        }
        (tenths, rest, unit) = (rest % 1000 / 100, rest / 1000, next);
    }
    if unit == "B" || rest >= 100 { format!("{rest}{unit}") } else { format!("{rest}.{tenths}{unit}") }
}

/// Columns as wide as what is in them.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |row: &[String; N]| {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}   ")).collect();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

/// Serves a runtime on the node's socket, for these commands and for crictl.
pub(crate) fn serve(run_dir: &Path, runtime: Arc<runtime::Runtime>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let socket = run_dir.join(SOCKET);
    // An earlier one's; two nodes at a time are kept apart by the image store's lock.
    let _ = fs::remove_file(&socket);
    // Nobody can speak to it before it has its mode.
    let draft = run_dir.join(format!(".{SOCKET}"));
    let _ = fs::remove_file(&draft);
    let listener = tokio::net::UnixListener::bind(&draft).with_context(|| format!("listen on {}", socket.display()))?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).context("guard the socket")?;
    fs::rename(&draft, &socket).with_context(|| format!("listen on {}", socket.display()))?;
    tokio::spawn(async move {
        if let Err(error) = cri::serve(listener, runtime.clone(), runtime).await {
            tracing::error!(%error, "the runtime is not served any more");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let check = |bytes: u64, expected: &str| assert_eq!(size(bytes), expected);
        check(0, "0B");
        check(999, "999B");
        check(1_250, "1.2kB");
        check(72_900_000, "72.9MB");
        check(123_456_789, "123MB");
    }

    #[test]
    fn flags_are_told_from_names() {
        let check = |line: &str, flags: &str, words: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (found, others) = apart(&args, FLAGS);
            assert_eq!((found.join(" "), others.join(" ")), (flags.to_owned(), words.to_owned()));
        };
        check("pull a --creds u:p b", "--creds u:p", "pull a b");
        check("--creds=u:p pull a", "--creds=u:p", "pull a");
        check("ls --help", "--help", "ls");
    }
}
