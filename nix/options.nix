# The keys of snowbankd's config file, as data: what config.example.toml documents, in a form that the NixOS module turns into
# options and a test compares with that file. Needs no nixpkgs.
#
# A key is an attrset with `type`, `description` and, unless it has to be given, `default`; `null` means "not set". What has
# no description is a section. Types:
#   "bool" "str" "path" "size" "time" "address"
#   "listen"                         an address, or a Unix socket
#   "folder"                         outside of the Nix store, where a path literal is taken as it is written
#   "secret-file"                    a file outside of the Nix store, which the unit gets as a credential
#   "secret"                         a secret itself: a key of the file, and never one of a NixOS configuration
#   { enum = [ … ]; } { between = [ least most ]; } { listOf = T; } { attrsOf = T; } { either = [ T T ]; }
#   { tables = { … }; }              an array of tables, each with these keys
let
  key = type: default: description: { inherit type default description; };
  required = type: description: { inherit type description; };
  unset = type: key type null;

  level = { between = [ 1 19 ]; };
  timeOrNever = { either = [ "time" { enum = [ "never" ]; } ]; };
in
{
  listen = key "listen" "127.0.0.1:8080" ''
    Where to listen: an IP address and a port, or a Unix socket, such as `unix:/run/snowbank/http.sock`.
  '';
  socket-mode = key "str" "0660" ''
    The permissions of the socket file, where `listen` is a Unix socket: whoever may write to it may connect.
  '';
  data-dir = unset "folder" ''
    The data folder: keys, the root token and, by default, the database and the packs. Here it is `/var/lib/snowbank` unless
    said otherwise; another one needs `services.snowbank.user`.
  '';
  public-url = unset "str" ''
    The address under which clients reach the server, if a proxy is in between, such as `https://cache.example.org`. It is shown,
    and names new signing keys; it is stored nowhere, so that it can change at any time.
  '';
  server-key-file = unset "secret-file" ''
    The file with the server key, which secrets in the database are sealed with. Without one, the first start makes it in the
    data folder. Servers that share a database need one and the same key:
    `head -c 32 /dev/urandom | base64 > FILE && chmod 600 FILE`.
  '';
  trusted-proxies = key { listOf = "str"; } [ ] ''
    Addresses or networks of the proxies in front, such as `127.0.0.1` or `10.0.0.0/8`, and `unix` for whoever connects to the
    Unix socket: from them, and from nobody else, the server believes which client a request came from.
  '';

  tls = {
    certificate-file = unset "secret-file" ''
      The server's certificate in PEM, followed by those of the authorities between it and the root. With it the server speaks
      HTTPS on its TCP sockets. The unit gets a copy of this file and of its key when it starts, so restart it after a renewal
      (`security.acme.certs.<name>.reloadServices = [ "snowbankd.service" ]`).
    '';
    private-key-file = unset "secret-file" ''
      The certificate's private key in PEM, without a passphrase.
    '';
    client-ca-file = unset "path" ''
      Authorities, in PEM, that sign the certificates of clients. With this key, clients need one besides their token.
    '';
    client-certificates = unset { enum = [ "required" "optional" ]; } ''
      Whether each client needs a certificate; `required` unless said otherwise.
    '';
  };

  database = {
    url = unset "str" ''
      `sqlite:PATH`, where a relative path is relative to the data folder, or `postgres://USER@HOST/NAME`. Without one it is the file
      `snowbank.db` in the data folder. An address with a password belongs into `url-file`.
    '';
    url-file = unset "secret-file" ''
      A file that holds the address; instead of `url`.
    '';
    connections = unset { between = [ 2 1000 ]; } ''
      Connections to PostgreSQL at the same time at most; 16 unless said otherwise.
    '';
    statement-timeout = unset "time" ''
      How long a statement of PostgreSQL may take before it is given up, 1s to 1h; 30s unless said otherwise.
    '';
    idle-timeout = unset "time" ''
      How long a transaction of PostgreSQL may stand still before it is ended and its locks are free, 1s to 5m; 5s unless said
      otherwise. For as long a server that has stopped can keep others from committing.
    '';
    reserve = unset "size" ''
      How much of its disk is kept for a SQLite database, 4MiB to 1GiB, or `0B`; 16MiB unless said otherwise.
    '';
    tls = unset { enum = [ "disable" "prefer" "require" "verify-ca" "verify-full" ]; } ''
      Whether the connection to PostgreSQL is encrypted, and what is verified: `prefer` (encrypted where the server offers it),
      `require` (encrypted, any certificate), `verify-ca`, `verify-full` (encrypted, a trusted certificate for that host). Without
      it, what the address says in `sslmode`, or `prefer`.
    '';
    tls-ca-file = unset "path" ''
      Certificates, in PEM, of authorities that are trusted besides the public ones.
    '';
  };

  storage = {
    type = key { enum = [ "local" "s3" ]; } "local" ''
      Where packs are kept: `local`, a folder of this machine, or `s3`, a bucket of an S3-compatible service.
    '';
    path = unset "folder" ''
      The folder, for `local`; the folder `storage` in the data folder unless said otherwise. One outside of the data folder
      needs `services.snowbank.user`, who owns it.
    '';
    min-free = unset "size" ''
      How much has to stay free on the disk of that folder, and on that of a SQLite database: with less, pushes are refused, and
      reading goes on. `0B` switches this off; without it, 5 % of the disk have to, and 1GiB at most.
    '';
    bucket = unset "str" ''
      The bucket's name, for `s3`.
    '';
    prefix = unset "str" ''
      What every key in the bucket begins with, so that several can share it.
    '';
    endpoint = unset "str" ''
      The service's address; none for AWS.
    '';
    region = unset "str" ''
      The region to sign for. Without one it is AWS_REGION, or `auto` where there is an endpoint.
    '';
    path-style = unset "bool" ''
      Whether the bucket is named in the path rather than in the host name; it is where there is an endpoint, unless said otherwise.
    '';
    access-key-id = unset "str" ''
      The public part of an access key. Its secret part is refused here, so that `credentials-file` is what to use.
    '';
    secret-access-key = unset "secret" ''
      The secret part of an access key. It is refused here, since everybody can read the Nix store: use `credentials-file`.
    '';
    session-token = unset "secret" ''
      What temporary access keys have beside. It is refused here, since everybody can read the Nix store: use `credentials-file`.
    '';
    credentials-file = unset "secret-file" ''
      A file in the format of `~/.aws/credentials`; no other source of credentials is asked then.
    '';
    profile = unset "str" ''
      A profile in `credentials-file`.
    '';
    instance-metadata = unset "bool" ''
      Whether the metadata service of an EC2 instance is asked for credentials; it is not, unless said otherwise.
    '';
    ca-file = unset "path" ''
      Certificates, in PEM, of authorities to believe beside the system's.
    '';
    request-timeout = unset "time" ''
      How long a request may stand still, 1s to 10m; 30s unless said otherwise.
    '';
    retry-for = unset "time" ''
      How long a request is tried again after its first failure, 0s to 10m; 60s unless said otherwise.
    '';
    max-requests = unset { between = [ 1 4096 ]; } ''
      Requests to the bucket at the same time; 64 unless said otherwise.
    '';
    memory-in-flight = unset "size" ''
      Memory for the bodies of those requests, at least 32MiB; 128MiB unless said otherwise.
    '';
    cache = {
      path = unset "folder" ''
        A folder of this machine that keeps the packs just written to the bucket, and the parts of packs just read; `pack-cache` in
        the data folder unless said otherwise. One outside of `/var/cache/snowbank` needs `services.snowbank.user`, who owns it.
      '';
      max-size = unset "size" ''
        The most disk space that this folder takes, at least 64MiB; 2GiB unless said otherwise.
      '';
    };
  };

  limits = {
    memory = key "size" "96MiB" ''
      Memory for request bodies, packs being written, and packs held for reading, together. At least 64MiB, and at least four times
      `bundle-size`. The database's page cache (80 MiB) and the program itself come on top.
    '';
    bundle-size = key "size" "8MiB" ''
      The largest bundle of chunks that a client may send in one request, 512KiB to 16MiB.
    '';
    max-nar-size = key "size" "64GiB" ''
      The largest NAR that is taken, and the most that the NARs of one commit have together, 1MiB to 1TiB.
    '';
    verify-threads = key { between = [ 0 256 ]; } 0 ''
      Threads that verify and decode what clients send; 0 means one per processor.
    '';
    body-timeout = key "time" "30s" ''
      How long the body of a request may stay silent, 1s to 1h.
    '';
    min-body-rate = key "size" "1KiB" ''
      The least rate, per second, at which a body has to arrive, at most 1MiB; 0B means any.
    '';
    body-deadline = key "time" "5m" ''
      How long a body may take in all, 1s to 1d, without the time in which the server makes it wait.
    '';
    answer-timeout = key "time" "30s" ''
      How long the lines that answer a commit may wait for a client that does not read, 1s to 1h. Then the rest of the
      commit is dropped.
    '';
    client-share = key { between = [ 33 100 ]; } 33 ''
      How much of the memory for pushes one token's subject, or one address, may hold while others want some, in percent;
      100 switches it off.
    '';
    connections = key { between = [ 1 65536 ]; } 1024 ''
      Connections that may be open at the same time. A new one takes the place of the one that is idle the longest, or of one
      whose client does not read.
    '';
    connections-per-address = key { between = [ 1 65536 ]; } 256 ''
      Of these, from one address. Trusted proxies, loopback addresses and the Unix socket have no such limit.
    '';
    requests = key { between = [ 1 65536 ]; } 4096 ''
      Requests under way at the same time; a connection may always have two.
    '';
    downloads = key { between = [ 1 65536 ]; } 256 ''
      NARs larger than 64 KiB that are sent at the same time.
    '';
    first-request-timeout = key "time" "15s" ''
      From the beginning of a connection to the end of its first request's head, 1s to 1h.
    '';
    idle-timeout = key "time" "75s" ''
      How long a connection stays open without a request, 1s to 1h.
    '';
    write-timeout = key "time" "60s" ''
      How long a response may take for 64 KiB because its client does not read, 1s to 1h.
    '';
    anonymous-listings = key { between = [ 1 1000000 ]; } 120 ''
      Listings a minute for each address that asks without a token, half of them at once.
    '';
    listings-per-token = key { between = [ 1 1000 ]; } 4 ''
      Listings of one token that are answered, or wait to be, at the same time.
    '';
    pins-per-cache = key { between = [ 1 1000000 ]; } 10000 ''
      Pins that one cache may have.
    '';
  };

  log = {
    format = key { enum = [ "text" "json" ]; } "text" ''
      What a line of the log looks like: for people, or one JSON object.
    '';
    level = key { enum = [ "error" "warn" "info" "debug" "trace" ]; } "info" ''
      The least severity that is logged.
    '';
  };

  metrics = {
    listen = unset "address" ''
      An address of its own for Prometheus, at `/metrics`; without one there are no metrics. It has no access control.
    '';
  };

  compression = {
    level = key level 3 ''
      The zstd level, 1 (fast) to 19 (small), that caches made from now on ask of the clients that push to them.
    '';
  };

  audit = {
    keep = key "time" "365d" ''
      How long entries of the audit log are kept.
    '';
  };

  gc = {
    interval = key timeOrNever "6h" ''
      How long after a collection the server begins the next one, 1m to 365d, or `never`; of several servers one does it.
    '';
    grace = key "time" "24h" ''
      How long what nothing needs any more is left alone, 0s to 365d, so that a push that is under way, or goes on later, finds
      what it has sent.
    '';
    retention = key timeOrNever "never" ''
      How long a path is kept that nobody pushes or reads, in caches that do not say so themselves; `never`: all is kept.
    '';
    max-size = key { either = [ "size" { enum = [ "none" ]; } ]; } "none" ''
      How much all caches together may hold, at least 16MiB, or `none`. Above it, what was used least recently goes first, whatever
      its retention; pins stay.
    '';
    min-age = key "time" "1d" ''
      What was pushed or read within this time never goes because of a size limit.
    '';
    compact-budget = key "size" "4GiB" ''
      Packs of which little is needed any more are rewritten, so that their room comes free: at most so many bytes in one collection,
      `0B` (none) or at least 16MiB.
    '';
    compact-rate = key "size" "32MiB" ''
      Bytes that are rewritten per second at most, at least 1MiB.
    '';
  };

  auth = {
    push-session = key { either = [ "time" { enum = [ "off" ]; } ]; } "6h" ''
      For how long a push may go on after it has begun, with tokens of its own, 1s to 7d; `off`: it ends with its token.
    '';
    token-key = key
      {
        tables = {
          kid = required "str" ''
            What tokens name it by.
          '';
          algorithm = required { enum = [ "HS256" "RS256" "ES256" "EdDSA" ]; } ''
            The algorithm of the signatures.
          '';
          file = required "path" ''
            The file with the key: for HS256 a secret of at least 32 bytes, for the others a public key in PEM, or a private one. Unless it
            is public it must not lie in the Nix store.
          '';
        };
      } [ ] ''
      Keys in files: tokens that they have signed are believed besides those that this server has issued.
    '';
    legacy-key = key
      {
        tables = {
          name = required "str" ''
            What messages call it.
          '';
          algorithm = required { enum = [ "HS256" "RS256" ]; } ''
            The algorithm of the signatures.
          '';
          file = required "path" ''
            The file with the key, as attic's settings have it: base64 of a secret of at least 32 bytes, or of an RSA key in PEM. Unless
            it is a public key it must not lie in the Nix store.
          '';
          issuer = unset "str" ''
            Whom its tokens have to name as their issuer.
          '';
          audiences = key { listOf = "str"; } [ ] ''
            For one of whom its tokens have to be meant; anybody where it is empty.
          '';
        };
      } [ ] ''
      Keys of attic: tokens that they have signed are believed as attic believed them.
    '';
    oidc = key
      {
        tables = {
          issuer = required "str" ''
            The issuer, exactly as its tokens name it, such as `https://ci.example.org`.
          '';
          audience = required "str" ''
            For whom a job has to request its token.
          '';
          name = unset "str" ''
            What subjects from there begin with, in logs and with what they push; the issuer's host unless said otherwise.
          '';
          claims = key { attrsOf = { either = [ "str" { listOf = "str"; } ]; }; } { } ''
            What the token's claims have to be, all of them: for each a pattern, or several of which one has to match.
          '';
          permissions = key { attrsOf = { listOf = { enum = [ "pull" "push" "delete" "configure" "create" ]; }; }; } { } ''
            What such a token may do: for each cache, or pattern of caches, a list of permissions.
          '';
        };
      } [ ] ''
      Issuers of tokens that tell who a CI job is (OpenID Connect). A token may do what all those allow together that it fits.
    '';
  };
}
