//! Bearer tokens in files that rotate.

use std::sync::Arc;
use std::time::Duration;

use client::{Client, Config, Credentials, Options, Source};
use world::{ManualClock, Timestamp, World};

use crate::harness::{Server, soon};

async fn whoami(client: &Client) -> String {
    let reviews = client.resource("authentication.k8s.io", "v1", "selfsubjectreviews");
    match soon(reviews.create(&Default::default())).await {
        Ok(review) => review.str_at(&["status", "userInfo", "username"]).to_owned(),
        Err(error) => error.reason().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_is_used_soon_and_at_once_if_the_old_one_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let tokens = dir.path().join("tokens.csv");
    std::fs::write(&tokens, "t1,alice,1\nt2,bob,2\n").expect("the tokens are written");
    let data = dir.path().join("data");
    let server = Server::start_with(&data, |options| options.token_auth_file = Some(tokens)).await;
    let file = dir.path().join("token");
    let config = Config {
        credentials: Credentials { token: Some(Source::File(file.clone())), ..Credentials::default() },
        ..server.config()
    };
    let clock = Arc::new(ManualClock::new(Timestamp::default()));
    let world = World { clock: clock.clone(), ..World::system() };
    let client = Client::http(&config, Options { world, ..Options::new("it") }).expect("the client is set up");
    let rotate = |token: &str| {
        // As a kubelet does it: another file takes the name.
        let new = dir.path().join("token.new");
        std::fs::write(&new, token).expect("the token is written");
        std::fs::rename(new, &file).expect("the token is moved");
    };
    assert_eq!(whoami(&client).await, "", "there is no token yet");
    rotate("t1\n");
    assert_eq!(whoami(&client).await, "alice");
    rotate("t2\n");
    assert_eq!(whoami(&client).await, "alice", "it is not read for each request");
    clock.advance(Duration::from_secs(61));
    assert_eq!(whoami(&client).await, "bob");
    rotate("wrong");
    clock.advance(Duration::from_secs(61));
    assert_eq!(whoami(&client).await, "Unauthorized");
    rotate("t1");
    assert_eq!(whoami(&client).await, "alice", "a refusal has it read at once");
    std::fs::remove_file(&file).expect("the token is removed");
    clock.advance(Duration::from_secs(61));
    assert_eq!(whoami(&client).await, "alice", "the last token is used on");
    server.stop().await;
}
