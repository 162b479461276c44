//! The server as a whole, on the real binary.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream;

use super::*;

/// Long enough for a busy machine; nothing here takes a second on an idle one.
const PATIENCE: Duration = Duration::from_secs(30);

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn jetstream_of(server: &NatsServer) -> jetstream::Context {
    jetstream::new(async_nats::connect(server.client_url()).await.expect("connect"))
}

async fn create_stream(jetstream: &jetstream::Context, replicas: usize) -> jetstream::stream::Stream {
    let config = jetstream::stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        num_replicas: replicas,
        ..Default::default()
    };
    jetstream.create_stream(config).await.expect("create the stream")
}

async fn publish(jetstream: &jetstream::Context, subject: &'static str, text: &'static str) -> u64 {
    let acknowledged = jetstream.publish(subject, text.into()).await.expect("publish");
    acknowledged.await.expect("acknowledged").sequence
}

/// Publish until it is stored: while the nodes have not heard of a leader yet, nobody listens on the subject, and that may be
/// so for a moment after the stream was made.
async fn publish_to_a_cluster(jetstream: &jetstream::Context, subject: &'static str) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match jetstream.publish(subject, "".into()).await.expect("publish").await {
            Ok(acknowledged) => return acknowledged.sequence,
            Err(error) => assert!(Instant::now() < deadline, "most nodes are there, which is enough, but: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn process_exists(pid: u32) -> bool {
    if !cfg!(target_os = "linux") {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        return rustix::process::test_kill_process(pid).is_ok();
    }
    // A dead process that nobody has reaped yet has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn an_acknowledged_message_is_there_after_a_kill_and_a_restart_on_the_same_port() {
    let mut server = NatsServer::start_for_test().await;
    let jetstream = jetstream_of(&server).await;
    create_stream(&jetstream, 1).await;
    let sequence = publish(&jetstream, "orders.1", "two loaves").await;
    let (url, killed) = (server.client_url(), server.pid().expect("it runs"));

    server.kill().expect("it runs");
    assert_eq!(server.pid(), None);
    assert!(!process_exists(killed), "kill waits for the end");
    assert!(matches!(server.kill(), Err(NatsServerError::NotRunning)));
    server.restart().await.expect("restart");

    assert_eq!(server.client_url(), url);
    assert_ne!(server.pid(), Some(killed));
    let stream = jetstream_of(&server).await.get_stream("ORDERS").await.expect("the stream is still there");
    let message = stream.get_raw_message(sequence).await.expect("the message is still there");
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("orders.1", &b"two loaves"[..]));
}

#[tokio::test]
async fn the_running_server_has_the_limits_and_the_sync_that_it_was_told() {
    let mut server = NatsServer::try_start_for_test(|config| config.max_file_store = 123_456_789).await.expect("start");
    let answer = http_get(&server, "/jsz").await;
    assert_eq!(answer["config"]["sync_always"], true);
    assert_eq!(answer["config"]["max_storage"], 123_456_789);
    assert_eq!(answer["config"]["max_memory"], 256 * 1024 * 1024);
    assert_eq!(answer["limits"]["max_batch_inflight_per_stream"], 50);
    assert_eq!(answer["limits"]["max_batch_size"], 1000);
    assert_eq!(http_get(&server, "/varz").await["max_payload"], 1024 * 1024);

    let data_dir = server.data_dir().to_owned();
    server.stop().await.expect("stop");
    server.stop().await.expect("a second stop changes nothing");
    drop(server);
    assert!(!data_dir.exists(), "the data of a test goes with it");

    let fast = NatsServer::try_start_for_test(|config| config.sync = SyncPolicy::ServerDefault).await.expect("start");
    assert_eq!(http_get(&fast, "/jsz").await["config"].get("sync_always"), None);
}

async fn http_get(server: &NatsServer, path: &str) -> serde_json::Value {
    let url = format!("{}{path}", server.monitoring_url());
    let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("a host");
    let answer = health::get(address.parse().expect("an address"), path).await.expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn a_folder_name_with_quotes_and_spaces_is_written_so_that_the_server_reads_it() {
    let parent = tempfile::tempdir().expect("folder");
    let data_dir = parent.path().join("my \"own\" $HOME \\ shop #1");
    let mut template = NatsServer::start_for_test().await;
    let mut options = template.start_options().clone();
    template.stop().await.expect("stop");
    options.config = ServerConfig::for_one_machine(&data_dir, ClientPort::Any).expect("config");

    let mut server = NatsServer::start(options).await.expect("start");

    assert!(data_dir.join("jetstream").is_dir(), "the store is in the folder");
    server.stop().await.expect("stop");
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_end_of_the_log() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let error = NatsServer::try_start_for_test(|config| config.client_port = ClientPort::Exactly(port))
        .await
        .expect_err("taken");
    let text = error.to_string();
    for expected in ["its port is taken", "--nats-port", "nats-server.log:", &format!("127.0.0.1:{port}")] {
        assert!(text.contains(expected), "{expected:?} is missing in: {text}");
    }
}

#[tokio::test]
async fn a_configuration_that_the_server_refuses_is_told_in_its_own_words() {
    let cluster = Cluster { name: "two words".to_owned(), port: 0, routes: vec![], advertise: None };
    let error = NatsServer::try_start_for_test(|config| config.cluster = Some(cluster)).await.expect_err("refused");
    assert!(error.to_string().contains("cluster name cannot contain spaces"), "{error}");
}

#[tokio::test]
async fn two_runs_cannot_share_a_data_folder() {
    let first = NatsServer::start_for_test().await;
    let error = NatsServer::start(first.start_options().clone()).await.expect_err("in use");
    assert!(matches!(error, NatsServerError::FolderInUse { .. }), "{error}");
    assert!(process_exists(first.pid().expect("it runs")), "the first is left alone");
}

#[tokio::test]
async fn a_server_that_dies_is_noticed_with_the_reason_it_logged() {
    let mut server = NatsServer::start_for_test().await;
    let pid = server.pid().expect("it runs");
    crate::signals::send(pid, rustix::process::Signal::TERM).expect("somebody else stops it");
    let error = tokio::time::timeout(PATIENCE, server.ended()).await.expect("noticed");
    assert!(error.to_string().contains("Server Exiting"), "{error}");
    assert!(matches!(server.ended().await, NatsServerError::NotRunning));
    server.restart().await.expect("it can be started again");
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_is_resumed() {
    let server = NatsServer::start_for_test().await;
    let jetstream = jetstream_of(&server).await;
    create_stream(&jetstream, 1).await;
    server.pause().expect("pause");
    let publishing = publish(&jetstream, "orders.1", "late");
    tokio::pin!(publishing);
    tokio::time::timeout(Duration::from_millis(200), &mut publishing).await.expect_err("nothing answers");
    server.resume().expect("resume");
    assert_eq!(publishing.await, 1);
}

#[tokio::test]
async fn three_servers_form_a_cluster_that_survives_the_loss_of_one() {
    let mut nodes = NatsServer::start_cluster_for_test().await;
    let jetstream = jetstream_of(&nodes[0]).await;
    let mut stream = create_stream(&jetstream, 3).await;
    assert_eq!(publish_to_a_cluster(&jetstream, "orders.1").await, 1);

    let cluster = stream.info().await.expect("info").cluster.clone().expect("a cluster");
    let leader = cluster.leader.expect("a leader");
    let lost = nodes.iter().position(|node| node.start_options().config.server_name != leader);
    let lost = lost.filter(|&index| index != 0).unwrap_or(2);
    nodes[lost].kill().expect("it runs");

    assert!(publish_to_a_cluster(&jetstream, "orders.2").await >= 2);
    nodes[lost].restart().await.expect("the lost node comes back");
}

#[tokio::test]
async fn the_production_configuration_is_valid_and_as_durable() {
    let server = NatsServer::start_for_test().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/nats/nats-server.conf");
    let checked = Command::new(&server.start_options().binary).args(["-t", "-c", file]).output().expect("run");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let text = std::fs::read_to_string(file).expect("read");
    for setting in ["sync_interval: always", "max_file_store:"] {
        assert!(text.lines().any(|line| line.trim().starts_with(setting)), "{setting} is missing");
    }
}

/// Not a test: the process that the next test kills. It holds a server in the folder that the variable names.
#[tokio::test]
#[ignore = "run by a_server_never_outlives_a_killed_run"]
async fn hold_a_server_until_killed() {
    let Some(folder) = std::env::var_os("HOLD_A_SERVER_IN") else { return };
    let mut options = NatsServer::start_for_test().await.start_options().clone();
    options.config = ServerConfig::on_any_port(folder.as_ref(), "held").expect("config");
    let server = NatsServer::start(options).await.expect("start");
    let throw_away = NatsServer::start_for_test().await;
    let pids = (server.pid().expect("runs"), throw_away.pid().expect("runs"));
    println!("HELD {} {} {}", pids.0, pids.1, throw_away.data_dir().display());
    std::future::pending::<()>().await;
}

/// Starts this test binary again as a run of its own, and returns it with the two process ids and the scratch folder.
fn run_that_holds_servers(folder: &std::path::Path) -> (std::process::Child, u32, u32, std::path::PathBuf) {
    let mut run = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "nats_server::tests::hold_a_server_until_killed", "--ignored", "--nocapture"])
        .env("HOLD_A_SERVER_IN", folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("run it again");
    let mut lines = BufReader::new(run.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let line = lines.find_map(|line| line.split_once("HELD ").map(|(_, rest)| rest.to_owned())).expect("it started");
    let mut words = line.split(' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a process id");
    let (held, throw_away) = (number(), number());
    (run, held, throw_away, words.next().expect("a folder").into())
}

#[tokio::test]
async fn a_server_never_outlives_a_killed_run() {
    let folder = tempfile::tempdir().expect("folder");
    let (mut run, held, throw_away, scratch) = run_that_holds_servers(folder.path());
    assert!(process_exists(held) && process_exists(throw_away) && scratch.exists());
    run.kill().expect("kill -9");
    run.wait().expect("it ends");

    until("both servers end", || !process_exists(held) && !process_exists(throw_away)).await;
    until("the data of the test server is removed", || !scratch.exists()).await;
    assert!(folder.path().join("jetstream").is_dir(), "the data of the shop stays");
}

#[cfg(target_os = "linux")] // it finds the guards in /proc
#[tokio::test]
async fn a_server_that_was_left_behind_is_stopped_before_the_next_one_starts() {
    let folder = tempfile::tempdir().expect("folder");
    let (mut run, held, throw_away, scratch) = run_that_holds_servers(folder.path());
    // Kill the guards too, as a kill of everything would.
    for guard in guards_of([held, throw_away]) {
        crate::signals::send(guard, rustix::process::Signal::KILL).expect("kill the guard");
    }
    run.kill().expect("kill -9");
    run.wait().expect("it ends");
    assert!(process_exists(held), "nobody was left to stop it");

    assert_eq!(stop_leftover(folder.path()).await.expect("stop it"), Some(held));
    assert!(!process_exists(held));
    assert_eq!(stop_leftover(folder.path()).await.expect("nothing to stop"), None);
    crate::signals::send(throw_away, rustix::process::Signal::KILL).expect("tidy up");
    until("the test server ends", || !process_exists(throw_away)).await;
    std::fs::remove_dir_all(scratch).expect("tidy up");
}

#[cfg(target_os = "linux")]
fn guards_of(servers: [u32; 2]) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter(|pid: &u32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        servers.iter().any(|server| line.contains(&format!("guard-of-nats-server\0{server}\0")))
    })
    .collect()
}

#[tokio::test]
async fn a_stranger_with_the_recorded_process_id_is_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let mut stranger = Command::new("sleep").arg("60").spawn().expect("a process");
    let dir = data_dir::DataDir::create(folder.path()).expect("folder");
    std::fs::write(dir.pid_file(), stranger.id().to_string()).expect("write");

    assert_eq!(stop_leftover(folder.path()).await.expect("nothing to stop"), None);

    assert_eq!(stranger.try_wait().expect("look"), None, "it still runs");
    stranger.kill().and_then(|()| stranger.wait()).expect("tidy up");
}
