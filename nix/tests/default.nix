# The modules under example configurations, without nixpkgs:
#   nix-instantiate --eval --strict --json nix/tests
let
  inherit (import ./evaluate.nix) server client clientBeside;

  problems = given: (server given).problems;
in
{
  examples = {
    plain = server { };

    team = server {
      openFirewall = true;
      settings = {
        listen = "0.0.0.0:8765";
        public-url = "https://cache.example.org";
        database.url = "sqlite:team.db";
        limits = { memory = "128MiB"; verify-threads = 1; min-body-rate = "0B"; };
        log = { format = "json"; level = "debug"; };
        compression.level = 9;
        storage.min-free = "0B";
        gc = { interval = "never"; retention = "90d"; max-size = "200GiB"; grace = "2h"; compact-budget = "0B"; };
      };
      caches = {
        team = { public = true; priority = 30; description = "the team's"; retention = "90d"; maxSize = "200GiB"; };
        secret = {
          public = false;
          isolated = true;
          compressionLevel = 12;
          upstreamKeys = [ "cache.nixos.org-1" "example.org-1" ];
          wantMassQuery = false;
        };
      };
    };

    # Caches that are there already, of which little is said.
    again = server { caches = { team = { }; main.retention = "default"; secret = { upstreamKeys = [ ]; maxSize = "200GB"; }; }; };

    # The files are credentials, which the test puts where the unit would find them.
    replica = server {
      database = "postgresql";
      databaseUrlFile = "/run/secrets/database-url";
      serverKeyFile = "/run/secrets/server-key";
      s3CredentialsFile = "/run/secrets/s3";
      settings = {
        database = { connections = 5; statement-timeout = "1m"; tls = "prefer"; };
        storage = {
          type = "s3";
          bucket = "snowbank";
          prefix = "team/cache";
          endpoint = "http://s3.example.org";
          region = "eu-central-1";
          path-style = true;
          profile = "default";
          instance-metadata = false;
          request-timeout = "10s";
          retry-for = "5s";
          max-requests = 16;
          memory-in-flight = "64MiB";
          cache = { path = "/var/cache/snowbank"; max-size = "1GiB"; };
        };
      };
    };

    socket = server {
      settings = { listen = "unix:/run/snowbank/http.sock"; socket-mode = "0666"; trusted-proxies = [ "unix" ]; };
      socketActivation = true;
    };

    https = server {
      settings = {
        listen = "0.0.0.0:8443";
        tls = { certificate-file = "/run/secrets/tls.pem"; private-key-file = "/run/secrets/tls.key"; };
      };
    };

    local = server { database = "postgresql"; createLocally = true; };

    # A folder may be written as a path, which is not copied into the store: there may not even be one on this machine.
    elsewhere = server {
      user = "nix-cache";
      settings = { storage.path = /srv/packs; database.url = "sqlite:/srv/database/snowbank.db"; };
    };

    # Keys that this version of the server may not know yet.
    ahead = server {
      settings = {
        trusted-proxies = [ "127.0.0.1" "10.0.0.0/8" ];
        audit.keep = "30d";
        auth = {
          token-key = [
            { kid = "old"; algorithm = "HS256"; file = "/run/secrets/old"; }
            { kid = "ci"; algorithm = "EdDSA"; file = "/etc/snowbank/ci.pem"; }
          ];
          oidc = [
            {
              issuer = "https://ci.example.org";
              audience = "https://cache.example.org";
              claims = { project = "team/*"; ref = [ "main" "release-*" ]; };
              permissions.team = [ "pull" "push" ];
            }
          ];
        };
      };
    };
  };

  # Each has to fail an assertion that says so.
  refused = {
    "the Nix store; use `s3CredentialsFile`" = problems { settings.storage = { type = "s3"; secret-access-key = "s3cret"; }; };
    "the Nix store; use `databaseUrlFile`" = builtins.concatMap
      (url: problems { database = "postgresql"; settings.database.url = url; })
      [ "postgres://u:p@h/d" "postgres://h/d?password=p" "postgresql://u:p/p@h/d" ];
    "a port of its own" = problems { settings.listen = "[::]:0"; };
    "is a Unix socket, which has none" = problems { openFirewall = true; settings.listen = "unix:/run/snowbank/http.sock"; };
    "set `database = \"postgresql\"`" = problems { databaseUrlFile = "/run/secrets/url"; };
    "PostgreSQL has no address" = problems { database = "postgresql"; };
    "`createLocally` is for" = problems { createLocally = true; };
    "given twice" = problems { serverKeyFile = "/a"; settings.server-key-file = "/b"; };
    "HS256" = problems {
      settings.auth.token-key = [ { kid = "a"; algorithm = "HS256"; file = "${builtins.storeDir}/secret"; } ];
    };
    "set `user`" = problems { settings.data-dir = "/srv/snowbank"; };
    "both `path` and `max-size`" = problems { settings.storage.cache.path = "/var/cache/snowbank"; };
    "what is for PostgreSQL alone: connections tls" = problems { settings.database = { connections = 5; tls = "require"; }; };
    "what is for a bucket: bucket region" = problems { settings.storage = { bucket = "a"; region = "b"; }; };
    "needs `bucket`" = problems { settings.storage = { type = "s3"; path = "/srv/packs"; endpoint = "http://s3.example.org"; }; };
    "a cache's name" = problems { caches."a b" = { }; };
  };

  # No address with a password.
  accepted = map (url: problems { database = "postgresql"; settings.database.url = url; }) [
    "postgres://u@h:5432/d"
    "postgres:///d?host=/run/a:b"
    "postgres://h/d"
  ];

  # Each has to be refused by its type.
  mistyped = map (settings: (builtins.tryEval (builtins.deepSeq (server { inherit settings; }).toml true)).success) [
    { lissten = "127.0.0.1:1"; }
    { listen = "localhost"; }
    { listen = "unix:http.sock"; }
    { metrics.listen = "unix:/run/a"; }
    { log.level = "loud"; }
    { limits.memory = "1G"; }
    { data-dir = "${builtins.storeDir}/data"; }
    { storage.path = "packs"; }
    { limits.verify-threads = 257; }
    { compression.level = 20; }
    { gc.interval = "weekly"; }
    { gc.max-size = "never"; }
    { gc.min-age = "never"; }
    { server-key-file = "${builtins.storeDir}/key"; }
    { server-key-file = "key"; }
    { tls.private-key-file = "${builtins.storeDir}/key"; }
    { tls.client-certificates = "maybe"; }
    { storage.path-style = "yes"; }
    { auth.token-key = [ { kid = "a"; algorithm = "none"; file = "/f"; } ]; }
    { auth.token-key = [ { algorithm = "HS256"; file = "/f"; } ]; }
    { auth.oidc = [ { issuer = "i"; audience = "a"; permissions.team = [ "own" ]; } ]; }
  ];

  machine = client {
    servers = {
      work = { url = "https://cache.example.org"; tokenFile = "/run/secrets/snowbank"; default = true; };
      lab = { url = "http://lab.example.org:8080/"; };
    };
    caches = [
      { server = "work"; name = "team"; publicKeys = [ "cache.example.org-team-1:a" ]; priority = 30; }
      { url = "http://lab.example.org:8080/"; name = "main"; publicKeys = [ "lab.example.org-main-1:b" "lab.example.org-main-2:c" ]; }
    ];
    netrcFile = "/run/secrets/netrc";
    connectTimeout = null;
  };
  builder = client {
    servers = {
      work = { url = "https://cache.example.org"; tokenFile = "/run/secrets/snowbank"; };
      open = { url = "https://open.example.org"; };
    };
    push = { server = "work"; cache = "team"; };
  };
  # Its Nix is configured by hand as well.
  machineByHand = clientBeside { } {
    nix.settings = { connect-timeout = 15; fallback = false; extra-substituters = [ "https://other.example.org" ]; };
  };
  clientRefused = {
    "one default server" = (client { servers = { a = { url = "http://a"; default = true; }; b = { url = "http://b"; default = true; }; }; }).problems;
    "`server` or `url`" = (client { caches = [ { name = "main"; publicKeys = [ "k:a" ]; } ]; }).problems;
    "without its `publicKeys`" = (client { caches = [ { url = "http://a"; name = "main"; } ]; }).problems;
    "need each other" = (client { push.cache = "main"; }).problems;
    "no server `gone`" = (client { push = { server = "gone"; cache = "main"; }; }).problems;
    "needs a `tokenFile`" = (client { servers.a.url = "http://a"; push = { server = "a"; cache = "main"; }; }).problems;
    "no server `away`" = (client { caches = [ { server = "away"; name = "main"; publicKeys = [ "k:a" ]; } ]; }).problems;
  };
}
