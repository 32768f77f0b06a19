//! A Snowbank as its users see it: one `snowbankd`, or several on one database and bucket behind a
//! load balancer.
//!
//! What a test that says nothing of it gets is decided by `SNOWBANK_TEST_SITE` (see
//! [`site`](crate::site)): the same tests run on every kind.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use crate::{
    Authority,
    balancer::Balancer,
    clock::FakeClock,
    process::{self, Running},
    replica::Replica,
    scratch,
    site::Site,
};

/// How many replicas a site has unless said otherwise.
const REPLICAS: usize = 3;

/// What a server is started with.
#[derive(Debug)]
pub struct ServerOptions {
    config: String,
    data_dir: Option<PathBuf>,
    site: Option<Arc<Site>>,
    database: String,
    storage: Vec<(String, String)>,
    replicas: usize,
    metrics: bool,
    environment: Vec<(String, String)>,
    tls: Option<(Arc<Authority>, String)>,
}

impl ServerOptions {
    /// Lines for its config file, in which `@address@` stands for the address that it listens on.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self
    }

    /// A data folder that outlives the server; without one it has a folder of its own.
    #[must_use]
    pub fn data_dir(mut self, folder: &Path) -> Self {
        self.data_dir = Some(folder.to_path_buf());
        self
    }

    /// Runs it on this site, whatever the environment says.
    #[must_use]
    pub fn on(mut self, site: &Arc<Site>) -> Self {
        self.site = Some(Arc::clone(site));
        self
    }

    /// The site's database that it uses, made when it is not there; the default is `snowbank`.
    #[must_use]
    pub fn database(mut self, name: &str) -> Self {
        name.clone_into(&mut self.database);
        self
    }

    /// Another value for a key of `[storage]`, as TOML; an empty one leaves the key out.
    #[must_use]
    pub fn storage(mut self, key: &str, value: &str) -> Self {
        self.storage.push((key.to_owned(), value.to_owned()));
        self
    }

    /// How many replicas there are on a site.
    #[must_use]
    pub const fn replicas(mut self, count: usize) -> Self {
        self.replicas = count;
        self
    }

    /// Lets it serve metrics also where it has no site, on which it always does.
    #[must_use]
    pub const fn metrics(mut self) -> Self {
        self.metrics = true;
        self
    }

    /// A variable of its environment, which has few otherwise.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets it serve HTTPS with a certificate of `authority`, and with these lines in `[tls]`, in
    /// which `@authority@` stands for the file of the authority's certificate. One server alone.
    #[must_use]
    pub fn tls(mut self, authority: &Arc<Authority>, toml: &str) -> Self {
        self.tls = Some((Arc::clone(authority), toml.to_owned()));
        self
    }

    /// Lets it go by another clock than the machine's.
    #[must_use]
    pub fn clock(mut self, clock: &FakeClock) -> Self {
        self.environment.extend(clock.environment());
        self
    }

    fn replica(&self, site: Option<&Site>, data_dir: Option<PathBuf>) -> Replica {
        let config = site.map_or_else(
            || self.config.clone(),
            |site| site.config(&self.config, &self.database, &self.storage),
        );
        let tls = self.tls.as_ref().map(|(authority, toml)| (authority, toml.as_str()));
        Replica::new(&config, data_dir, self.metrics || site.is_some(), &self.environment, tls)
    }

    /// Starts it, all replicas at once, and waits until they are ready.
    #[must_use]
    pub fn start(mut self) -> Server {
        let site = self.site.take().or_else(Site::of_environment);
        let count = if site.is_some() { self.replicas } else { 1 };
        let mut data_dir = self.data_dir.take();
        let replicas = (0..count).map(|_| self.replica(site.as_deref(), data_dir.take())).collect();
        let mut server = Server { replicas, balancer: None, site, storage: self.storage };
        server.start_again();
        if server.site.is_some() {
            server.balancer =
                Some(Balancer::before(server.replicas.iter().map(Replica::address).collect()));
        }
        server
    }

    /// Runs `snowbankd ARGS` with this configuration, without a server of its own.
    #[must_use]
    pub fn command(mut self, args: &[&str]) -> process::Output {
        let site = self.site.take().or_else(Site::of_environment);
        self.replica(site.as_deref(), self.data_dir.clone()).command(args)
    }

    /// Starts one replica that is to end by itself within `limit`, and gives what it said.
    #[must_use]
    pub fn start_in_vain(mut self, limit: Duration) -> process::Output {
        let site = self.site.take().or_else(Site::of_environment);
        let replica = self.replica(site.as_deref(), self.data_dir.clone());
        Running::start(replica.serve(), &[]).wait_for(limit)
    }
}

/// One `snowbankd`, or a site's replicas and the load balancer before them. Ended (with SIGKILL)
/// when dropped.
#[derive(Debug)]
pub struct Server {
    // Ended before what they use.
    replicas: Vec<Replica>,
    balancer: Option<Balancer>,
    site: Option<Arc<Site>>,
    storage: Vec<(String, String)>,
}

impl Server {
    /// A server with no configuration at all, or on the site that the environment names.
    #[must_use]
    pub fn start() -> Self {
        Self::options().start()
    }

    /// A server to be configured.
    #[must_use]
    pub fn options() -> ServerOptions {
        ServerOptions {
            config: String::new(),
            data_dir: None,
            site: None,
            database: "snowbank".to_owned(),
            storage: Vec::new(),
            replicas: REPLICAS,
            metrics: false,
            environment: Vec::new(),
            tls: None,
        }
    }

    /// What its replicas share; `None` for one with a database and a storage of its own.
    #[must_use]
    pub fn shared(&self) -> Option<&Site> {
        self.site.as_deref()
    }

    /// What its replicas share, for another server on it.
    #[must_use]
    pub fn shared_site(&self) -> Option<Arc<Site>> {
        self.site.clone()
    }

    /// What its replicas share.
    #[must_use]
    pub fn site(&self) -> &Site {
        self.shared().unwrap_or_else(|| panic!("this server runs on no site"))
    }

    /// Its replicas; one unless it runs on a site.
    #[must_use]
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// One of them, to be killed or started.
    pub fn replica(&mut self, number: usize) -> &mut Replica {
        &mut self.replicas[number]
    }

    fn first(&self) -> &Replica {
        &self.replicas[0]
    }

    /// `http://127.…:PORT`, or the same with https; on a site the load balancer's.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.balancer {
            Some(balancer) => format!("http://{}", balancer.address()),
            None => self.first().url(),
        }
    }

    /// The address that it listens on; on a site the load balancer's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.balancer.as_ref().map_or_else(|| self.first().address(), Balancer::address)
    }

    /// Its data folder; on a site the first replica's.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.first().data_dir()
    }

    /// The token that was made at its first start.
    #[must_use]
    pub fn root_token(&self) -> String {
        let files: Vec<PathBuf> =
            self.replicas.iter().map(|one| one.data_dir().join("root-token")).collect();
        let token = files.iter().find_map(|file| fs::read_to_string(file).ok());
        token.unwrap_or_else(|| panic!("there is none of {files:?}")).trim().to_owned()
    }

    /// Starts it where it ran before, and waits until it is ready.
    pub fn start_again(&mut self) {
        self.replicas.iter_mut().for_each(Replica::spawn);
        self.replicas.iter_mut().for_each(Replica::wait_ready);
    }

    /// Sends SIGTERM, and gives how it ended; on a site, how the first ended of those that did not
    /// end well.
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        let ends: Vec<ExitStatus> = self.replicas.iter_mut().map(Replica::wait_end).collect();
        ends.iter().find(|end| !end.success()).copied().unwrap_or(ends[0])
    }

    /// Sends SIGTERM and does not wait.
    pub fn ask_to_end(&self) {
        self.replicas.iter().for_each(Replica::ask_to_end);
    }

    /// Sends SIGKILL, as a crash would; on a site to every replica.
    pub fn kill9(&mut self) {
        self.replicas.iter_mut().for_each(Replica::kill9);
    }

    /// Restarts it as a server that has nothing of a bucket in memory or on its disk.
    pub fn restart_without_packs(&mut self) {
        assert!(self.terminate().success(), "a server did not end well");
        for replica in &self.replicas {
            let folder = replica.data_dir().join("pack-cache");
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    panic!("{}: {error}", folder.display())
                }
                _ => {}
            }
        }
        self.start_again();
    }

    /// Ends it gracefully and starts it again.
    pub fn restart(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "snowbankd ended with {status} on SIGTERM: {}", self.log());
        self.start_again();
    }

    /// The most memory that it has held, in bytes, over all its starts; on a site the most of any
    /// replica.
    pub fn peak_rss_bytes(&mut self) -> u64 {
        self.replicas.iter_mut().map(Replica::peak_rss_bytes).max().unwrap_or(0)
    }

    /// The memory that it holds now, in bytes; on a site all replicas together.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.replicas.iter().filter_map(Replica::id).map(process::rss).sum()
    }

    /// Processor time that it has taken since its last start; on a site all replicas together.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.replicas.iter().filter_map(Replica::id).map(process::cpu_time).sum()
    }

    /// What it wrote on standard output since its last start; on a site the first replica.
    #[must_use]
    pub fn banner(&self) -> String {
        self.first().banner()
    }

    /// What it has written on standard error, over all its starts and replicas.
    #[must_use]
    pub fn log(&self) -> String {
        self.replicas.iter().map(Replica::log).collect()
    }

    /// Runs `snowbankd ARGS` with its config and data folder, beside the server if it runs.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> process::Output {
        self.first().command(args)
    }

    /// A token that may pull what matches `pull` and push what matches `push`.
    #[must_use]
    pub fn token(&self, subject: &str, pull: &[&str], push: &[&str]) -> String {
        let mut args = vec!["token", "create", "--sub", subject, "--expires", "1d"];
        args.extend(pull.iter().flat_map(|pattern| ["--pull", pattern]));
        args.extend(push.iter().flat_map(|pattern| ["--push", pattern]));
        self.command(&args).success().stdout.trim().to_owned()
    }

    /// The folder of its stored objects: on its own disk, or on that of the site's object storage.
    #[must_use]
    pub fn objects(&self) -> PathBuf {
        self.site
            .as_ref()
            .map_or_else(|| self.data_dir().join("storage"), |site| site.objects(&self.storage))
    }

    /// Bytes of the packs that it has stored.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        scratch::bytes_beneath(&self.objects().join("packs"))
    }

    /// The sum of a counter over all replicas.
    #[must_use]
    pub fn counted(&self, counter: &str, labels: &[(&str, &str)]) -> f64 {
        self.replicas.iter().map(|replica| replica.counted(counter, labels)).sum()
    }
}
