pub struct NatsServer { child: std::process::Child, url: String, _dir: tempfile::TempDir }
impl NatsServer {
    pub async fn start_for_test() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("n.conf");
        let port = { let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap(); l.local_addr().unwrap().port() };
        std::fs::write(&conf, format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}, sync_interval: always, max_file: 2G }}\n", dir.path().join("d"))).unwrap();
        let child = std::process::Command::new("nats-server").arg("-c").arg(&conf).arg("-l").arg(dir.path().join("log")).spawn().unwrap();
        let url = format!("nats://127.0.0.1:{port}");
        for _ in 0..200 { if async_nats::connect(&url).await.is_ok() { break } tokio::time::sleep(std::time::Duration::from_millis(50)).await; }
        Self { child, url, _dir: dir }
    }
    pub fn client_url(&self) -> String { self.url.clone() }
}
impl Drop for NatsServer { fn drop(&mut self) { let _ = self.child.kill(); let _ = self.child.wait(); } }
