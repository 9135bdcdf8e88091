//! kill -9 under load: clients and watches go on from server to server, and one order of events explains all that they saw.

mod history;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::harness::Server;
use crate::wire::{Address, Answer, Connection, is_lost};
use history::{Ask, Call, Event, Kind, List, Object, Objects, Revision, Seen, Session, Told};

/// How often the server is killed; `KUBOX_LONG` does it ten times as often.
const KILLS: usize = 20;
/// Clients that read and write while the server is killed.
const CLIENTS: usize = 5;
/// Watchers beside them.
const WATCHERS: usize = 5;
/// Few keys, so that clients are in each other's way.
const KEYS: usize = 4;
/// The key that is written last.
const LAST: &str = "last";
/// Where the objects are.
const NAMESPACE: &str = "history";

/// What the test knows of a run, whichever server is up.
struct Run {
    clock: AtomicU64,
    values: AtomicU64,
}

impl Run {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// A value that nobody wrote before.
    fn value(&self) -> String {
        format!("v{}", self.values.fetch_add(1, Ordering::SeqCst))
    }
}

/// What clients and watches tell the one who kills.
#[derive(PartialEq, Eq)]
enum News {
    /// A write was acknowledged.
    Wrote,
    /// A watch is running.
    Watching,
    /// A client has come to its end.
    Ended,
}

/// Says that a client has ended, however it did.
struct Ending(Sender<News>);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.send(News::Ended);
    }
}

#[test]
fn one_order_of_events_explains_what_clients_saw_across_kills() {
    let kills = if std::env::var_os("KUBOX_LONG").is_some() { KILLS * 10 } else { KILLS };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = Run { clock: AtomicU64::new(1), values: AtomicU64::new(0) };
    let mut watchers = [Start::Resume, Start::Resume, Start::List, Start::List, Start::Stream].map(Watcher::new);
    let mut seen = Seen::default();
    for round in 0..kills {
        let server = Server::over(folder.path(), &[]);
        if round == 0 {
            let namespace = json!({"metadata": {"name": NAMESPACE}}).to_string();
            let made = Address::of(&server).connect().and_then(|mut c| c.ask("POST", "/api/v1/namespaces", &namespace));
            assert_eq!(made.expect("the server answers").code, 201);
        }
        // Let some writes through, not as many in each round, then pull the plug in the middle of the next ones.
        let pull = |news: Receiver<News>| {
            let (mut written, mut watching) = (0, 0);
            let mut ended = false;
            while !ended && (written < 10 + round % 7 * 3 || watching < WATCHERS) {
                let news = news.recv().expect("all say when they end");
                written += usize::from(news == News::Wrote);
                watching += usize::from(news == News::Watching);
                ended |= news == News::Ended;
            }
            server.kill();
            ended
        };
        let (ended, by_clients) = work(&run, &server, round as u64, u64::MAX, &mut watchers, pull);
        assert!(!ended, "round {round}: the server or a client ended before the kill");
        seen.extend(by_clients);
    }
    // Once more without a kill: clients do their work, and the watchers follow until the last write.
    let server = Server::over(folder.path(), &[]);
    let write_last = |news: Receiver<News>| {
        let ended = news.iter().filter(|news| *news == News::Ended).take(CLIENTS).count();
        assert_eq!(ended, CLIENTS);
        let mut client = Client::new(&run, fastrand::Rng::with_seed(0));
        let mut connection = Address::of(&server).connect().expect("the server answers");
        client.call(&mut connection, LAST, Ask::Create { value: run.value() }).expect("the server answers");
        client.seen
    };
    let (last, by_clients) = work(&run, &server, kills as u64, 40, &mut watchers, write_last);
    seen.extend(last);
    seen.extend(by_clients);
    let (resumed, bridged) = watchers.iter().fold((0, 0), |(r, b), w| (r + w.resumed, b + w.bridged));
    for watcher in watchers {
        assert!(watcher.sees_last(), "a watcher was lost");
        seen.extend(watcher.seen);
    }
    let report = history::check(&seen).unwrap_or_else(|error| panic!("{error}"));
    println!("{kills} kills, {resumed} watches resumed, {bridged} gaps bridged by lists: {report:?}");
    // A run in which nothing happens would show nothing.
    assert!(report.acknowledged >= kills * 10 && report.refused > kills && report.reads > kills, "{report:?}");
    assert!(report.events > report.changes && report.sessions > kills && resumed > 0, "{report:?}");
}

/// Lets clients and watchers work on a server while `meanwhile` hears what they do; gives what that gave, and what the
/// clients saw.
fn work<T>(
    run: &Run,
    server: &Server,
    round: u64,
    calls: u64,
    watchers: &mut [Watcher],
    meanwhile: impl FnOnce(Receiver<News>) -> T,
) -> (T, Seen) {
    let address = &Address::of(server);
    let (sender, news) = channel();
    let random = |number: usize| fastrand::Rng::with_seed(round * 100 + number as u64);
    std::thread::scope(|scope| {
        for (number, watcher) in watchers.iter_mut().enumerate() {
            let (sender, random) = (sender.clone(), random(CLIENTS + number));
            scope.spawn(move || until_lost(|| watcher.follow(run, address, random, &sender)));
        }
        let work = |number| {
            let (ending, mut client) = (Ending(sender.clone()), Client::new(run, random(number)));
            scope.spawn(move || {
                until_lost(|| client.work(address, calls, &ending.0));
                client.seen
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(work).collect();
        let result = meanwhile(news);
        let mut seen = Seen::default();
        for client in clients {
            seen.extend(client.join().expect("a client is fine"));
        }
        (result, seen)
    })
}

/// Runs until the server is gone, or all is done. Nothing else may go wrong.
fn until_lost(act: impl FnOnce() -> io::Result<()>) {
    if let Err(error) = act() {
        assert!(is_lost(&error), "{error:?}");
    }
}

fn path(query: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps{query}")
}

fn object(value: &Value) -> (String, Object) {
    let text = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_else(|| panic!("no {at} in {value}"));
    let object = Object {
        revision: text("/metadata/resourceVersion").parse().expect("a revision"),
        value: text("/data/v").to_owned(),
        uid: text("/metadata/uid").to_owned(),
    };
    (text("/metadata/name").to_owned(), object)
}

fn revision_of(value: &Value) -> Revision {
    value["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("a revision")
}

/// Reads a list, page by page if there is a limit.
fn list(run: &Run, connection: &mut Connection, query: &str, fresh: bool) -> io::Result<List> {
    let begin = run.tick();
    let mut objects = Objects::new();
    let mut revision = None;
    let mut next = String::new();
    loop {
        let answer = connection.ask("GET", &path(&format!("?{query}{next}")), "")?;
        assert_eq!(answer.code, 200, "a list with {query}{next}: {}", answer.body);
        let page = answer.json();
        let of = revision_of(&page);
        assert_eq!(*revision.get_or_insert(of), of, "pages of one list are of one revision");
        objects.extend(page["items"].as_array().into_iter().flatten().map(object));
        match page["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => next = format!("&continue={token}"),
            _ => return Ok(List { begin, end: run.tick(), revision: of, objects, fresh }),
        }
    }
}

/// Reads and writes a few keys.
struct Client<'a> {
    run: &'a Run,
    random: fastrand::Rng,
    /// What it saw last of each key.
    known: Vec<Option<Revision>>,
    seen: Seen,
}

impl<'a> Client<'a> {
    fn new(run: &'a Run, random: fastrand::Rng) -> Self {
        Self { run, random, known: vec![None; KEYS], seen: Seen::default() }
    }

    fn work(&mut self, address: &Address, calls: u64, news: &Sender<News>) -> io::Result<()> {
        let mut connection = address.connect()?;
        for _ in 0..calls {
            let key = self.random.usize(..KEYS);
            let value = self.run.value();
            let ask = match (self.random.u8(..12), self.known[key]) {
                (0..4, Some(over)) => Ask::Update { value, over: Some(over) },
                (4, _) => Ask::Update { value, over: None },
                (5..7, _) | (0..4, None) => Ask::Create { value },
                (7, Some(over)) => Ask::Delete { over },
                (8, _) => {
                    let query = ["", "limit=1", "limit=2", "resourceVersion=0"][self.random.usize(..4)];
                    let list = list(self.run, &mut connection, query, query != "resourceVersion=0")?;
                    self.seen.lists.push(list);
                    continue;
                }
                _ => Ask::Get,
            };
            let writes = !matches!(ask, Ask::Get);
            let told = self.call(&mut connection, &format!("k{key}"), ask)?;
            self.known[key] = match &told {
                Told::Object(object) => Some(object.revision),
                Told::Conflict | Told::Exists => self.known[key],
                Told::Deleted { .. } | Told::NotFound | Told::Nothing => None,
            };
            if writes && matches!(told, Told::Object(_) | Told::Deleted { .. }) {
                // Nobody listens any more once the server is to be killed.
                let _ = news.send(News::Wrote);
            }
        }
        Ok(())
    }

    fn call(&mut self, connection: &mut Connection, key: &str, ask: Ask) -> io::Result<Told> {
        let body = |value: &str, over: Option<Revision>| {
            let mut object = json!({"metadata": {"name": key}, "data": {"v": value}});
            if let Some(over) = over {
                object["metadata"]["resourceVersion"] = over.to_string().into();
            }
            object.to_string()
        };
        let named = path(&format!("/{key}"));
        let begin = self.run.tick();
        let answer = match &ask {
            Ask::Create { value } => connection.ask("POST", &path(""), &body(value, None)),
            Ask::Update { value, over } => connection.ask("PUT", &named, &body(value, *over)),
            Ask::Delete { over } => {
                let options = json!({"preconditions": {"resourceVersion": over.to_string()}});
                connection.ask("DELETE", &named, &options.to_string())
            }
            Ask::Get => connection.ask("GET", &named, ""),
        };
        let told = match &answer {
            Ok(answer) => told(&ask, answer),
            Err(_) => Told::Nothing,
        };
        let call = Call { begin, end: self.run.tick(), key: key.to_owned(), ask, told: told.clone() };
        self.seen.calls.push(call);
        answer.map(|_| told)
    }
}

fn told(ask: &Ask, answer: &Answer) -> Told {
    let json = answer.json();
    match (ask, answer.code, json["reason"].as_str().unwrap_or_default()) {
        (Ask::Delete { .. }, 200, _) => {
            Told::Deleted { uid: json["details"]["uid"].as_str().unwrap_or_default().to_owned() }
        }
        (_, 200 | 201, _) => Told::Object(object(&json).1),
        (_, 404, _) => Told::NotFound,
        (_, 409, "AlreadyExists") => Told::Exists,
        (_, 409, "Conflict") => Told::Conflict,
        _ => panic!("{ask:?} was answered with {answer:?}"),
    }
}

/// How a watcher goes on when its watch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// From the last revision that it saw; if the server cannot, it lists every revision between.
    Resume,
    /// It lists, and watches from there.
    List,
    /// It watches with initial events.
    Stream,
}

/// Follows the keys, whichever server is up.
struct Watcher {
    start: Start,
    /// The last revision that it saw.
    last: Option<Revision>,
    seen: Seen,
    /// How often it went on from where it was.
    resumed: usize,
    /// How often it could not, and listed.
    bridged: usize,
}

impl Watcher {
    fn new(start: Start) -> Self {
        Self { start, last: None, seen: Seen::default(), resumed: 0, bridged: 0 }
    }

    /// Watches until the server is gone or the last key appears.
    fn follow(
        &mut self,
        run: &Run,
        address: &Address,
        mut random: fastrand::Rng,
        news: &Sender<News>,
    ) -> io::Result<()> {
        let _ending = Ending(news.clone());
        let mut said = false;
        while !self.sees_last() {
            // Some watches are cut short by their client.
            let events_max = if random.bool() { usize::MAX } else { random.usize(1..20) };
            let watching = || {
                if !std::mem::replace(&mut said, true) {
                    let _ = news.send(News::Watching);
                }
            };
            self.watch(run, address, events_max, watching)?;
        }
        Ok(())
    }

    fn sees_last(&self) -> bool {
        let listed = self.seen.lists.last().is_some_and(|list| list.objects.contains_key(LAST));
        let last = self.seen.sessions.last().and_then(|session| session.events.last());
        listed || last.is_some_and(|event| event.key == LAST)
    }

    /// One watch. What it saw is noted, however it ends.
    fn watch(&mut self, run: &Run, address: &Address, events_max: usize, watching: impl FnOnce()) -> io::Result<()> {
        let mut connection = address.connect()?;
        let (after, resumes) = match (self.start, self.last) {
            (Start::Resume, Some(last)) => (last, true),
            (Start::Stream, _) => (0, false),
            _ => {
                let list = list(run, &mut connection, "", true)?;
                let revision = list.revision;
                self.seen.lists.push(list);
                (revision, false)
            }
        };
        let begin = run.tick();
        let query = match self.start {
            Start::Stream => {
                "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1".to_owned()
            }
            _ => format!("?watch=1&resourceVersion={after}"),
        };
        let mut watch = match connection.watch(&path(&query))? {
            Ok(watch) => watch,
            Err(answer) => panic!("no watch: {answer:?}"),
        };
        let mut initial = Objects::new();
        let mut session = (self.start != Start::Stream).then(|| Session { after, events: Vec::new(), bookmark: None });
        watching();
        let mut count = 0;
        let ended = loop {
            let event = match watch.next() {
                Ok(Some(event)) if count < events_max => event,
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            };
            let seen = run.tick();
            let kind = match event["type"].as_str().unwrap_or_default() {
                "ADDED" => Kind::Added,
                "MODIFIED" => Kind::Modified,
                "DELETED" => Kind::Deleted,
                "BOOKMARK" => {
                    let revision = revision_of(&event["object"]);
                    match &mut session {
                        Some(session) => session.bookmark = Some(revision),
                        None => {
                            let mark = &event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
                            assert_eq!(*mark, "true", "{event}");
                            let objects = std::mem::take(&mut initial);
                            self.seen.lists.push(List { begin, end: seen, revision, objects, fresh: true });
                            session = Some(Session { after: revision, events: Vec::new(), bookmark: None });
                        }
                    }
                    continue;
                }
                "ERROR" if event["object"]["code"] == 410 && resumes && count == 0 => {
                    self.bridged += 1;
                    return self.bridge(run, address, after);
                }
                _ => panic!("a watch after {after} was told {event}"),
            };
            count += 1;
            let (key, object) = object(&event["object"]);
            match &mut session {
                Some(session) => {
                    self.last = Some(object.revision);
                    let is_last = key == LAST;
                    session.events.push(Event { seen, kind, key, object });
                    if is_last {
                        break Ok(());
                    }
                }
                None => {
                    assert_eq!(kind, Kind::Added, "an initial event: {event}");
                    initial.insert(key, object);
                }
            }
        };
        self.resumed += usize::from(resumes && count > 0);
        self.last = self.last.max(Some(after));
        self.seen.sessions.extend(session);
        ended
    }

    /// Lists each revision from one that was seen to the present one: a new server does not know what was watched before
    /// it, but it has read all that is kept.
    fn bridge(&mut self, run: &Run, address: &Address, from: Revision) -> io::Result<()> {
        let mut connection = address.connect()?;
        let now = list(run, &mut connection, "", true)?;
        for revision in from..now.revision {
            let query = format!("resourceVersion={revision}&resourceVersionMatch=Exact");
            let list = list(run, &mut connection, &query, false)?;
            assert_eq!(list.revision, revision);
            self.seen.lists.push(list);
        }
        self.last = Some(now.revision);
        self.seen.lists.push(now);
        Ok(())
    }
}
