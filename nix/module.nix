# The NixOS module of the server: `services.snowbank`.
#
# Secrets never enter the Nix store: they are files, which systemd hands to the unit as credentials. The server's user is made up
# by systemd while the unit runs (DynamicUser), unless `user` names one.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkEnableOption mkIf mkMerge mkOption optional optionals types;

  cfg = config.services.snowbank;
  declared = import ./options.nix;

  stateDir = "/var/lib/snowbank";
  cacheDir = "/var/cache/snowbank";

  # As the server reads them.
  sizePattern = "[0-9]+ ?(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)";
  size = types.strMatching sizePattern;
  time = types.strMatching "[0-9]+ ?[smhd]";
  secretFile = types.addCheck types.str (file: lib.hasPrefix "/" file && !inStore file) // {
    description = "absolute path, as a string, outside of the Nix store";
  };
  folder = types.addCheck types.path (path: !inStore path) // { description = "absolute path outside of the Nix store"; };
  inStore = file: within builtins.storeDir (toString file);
  within = folder: path: path == folder || lib.hasPrefix "${folder}/" path;
  first = one: other: if one != null then one else other;

  typeOf = type:
    if type ? enum then types.enum type.enum
    else if type ? between then types.ints.between (builtins.elemAt type.between 0) (builtins.elemAt type.between 1)
    else if type ? listOf then types.listOf (typeOf type.listOf)
    else if type ? attrsOf then types.attrsOf (typeOf type.attrsOf)
    else if type ? either then types.either (typeOf (builtins.elemAt type.either 0)) (typeOf (builtins.elemAt type.either 1))
    else if type ? tables then types.listOf (types.submodule { options = optionsOf type.tables; })
    else {
      inherit (types) bool str path;
      inherit size time folder;
      address = types.strMatching "[^ ]+:[0-9]+";
      listen = types.strMatching "[^ ]+:[0-9]+|unix:/.+";
      secret = types.str;
      secret-file = secretFile;
    }.${type};

  optionOf = option: mkOption ({
    type = if option ? default && option.default == null then types.nullOr (typeOf option.type) else typeOf option.type;
    inherit (option) description;
  } // lib.optionalAttrs (option ? default) { inherit (option) default; });
  optionsOf = builtins.mapAttrs (_: node: if node ? description then optionOf node else optionsOf node);

  user = first cfg.user "snowbank";
  settings = cfg.settings // {
    data-dir = first cfg.settings.data-dir stateDir;
    server-key-file = first cfg.serverKeyFile cfg.settings.server-key-file;
    database = cfg.settings.database // {
      # Through the socket in /run/postgresql, where PostgreSQL knows the user without a password.
      url = if cfg.createLocally then "postgres:///${user}?host=/run/postgresql&user=${user}" else cfg.settings.database.url;
      url-file = first cfg.databaseUrlFile cfg.settings.database.url-file;
    };
    storage = cfg.settings.storage // {
      credentials-file = first cfg.s3CredentialsFile cfg.settings.storage.credentials-file;
    };
  };

  # A unit finds its credentials in a folder with its own name, so that each has a config file of its own.
  rendered = unit: import ./settings.nix {
    options = declared;
    inherit settings;
    credentialsDirectory = "/run/credentials/${unit}.service";
  };
  configFile = unit: (pkgs.formats.toml { }).generate "${unit}.toml" (rendered unit).toml;
  inherit (rendered "snowbankd") credentials;

  snowbankd = "${cfg.package}/bin/snowbankd";

  # A Unix socket has no port.
  listen = builtins.match "(.+):([0-9]+)" cfg.settings.listen;
  isUnix = lib.hasPrefix "unix:" cfg.settings.listen;
  port = if isUnix then null else builtins.fromJSON (builtins.elemAt listen 1);

  folders = builtins.filter (folder: folder != null && !within stateDir folder && !within cacheDir folder)
    (map (path: if path == null then null else toString path) [
      settings.data-dir
      settings.storage.path
      settings.storage.cache.path
      (
        let file = if settings.database.url == null then null else builtins.match "sqlite:(//)?(/.+)" settings.database.url; in
        if file == null then null else dirOf (builtins.elemAt file 1)
      )
    ]);

  # Who the server is and what it may write to; the same for everything that works with its data.
  identity = {
    DynamicUser = cfg.user == null;
    User = user;
    StateDirectory = "snowbank";
    StateDirectoryMode = "0700";
    CacheDirectory = "snowbank";
    CacheDirectoryMode = "0700";
    UMask = "0077";
  } // lib.optionalAttrs (credentials != [ ]) {
    LoadCredential = map (credential: "${credential.name}:${credential.source}") credentials;
  } // lib.optionalAttrs (folders != [ ]) {
    ReadWritePaths = folders;
  };

  hardening = {
    NoNewPrivileges = true;
    CapabilityBoundingSet = "";
    AmbientCapabilities = "";
    ProtectSystem = "strict";
    ProtectHome = true;
    PrivateTmp = true;
    PrivateDevices = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    # Not ProcSubset=pid: the allocator reads /proc/sys/vm/overcommit_memory, and gives memory back more slowly without it.
    ProtectProc = "invisible";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    RemoveIPC = true;
    RestrictAddressFamilies = [ "AF_INET" "AF_INET6" "AF_UNIX" ];
    RestrictNamespaces = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    SystemCallArchitectures = "native";
    # openat2 and preadv2 are what warm reads are made of; systemd has them among @system-service, and older ones may not.
    SystemCallFilter = [ "@system-service openat2 preadv2" "~@privileged @resources" ];
    # A call that is not allowed fails; the server then does without it, where it can.
    SystemCallErrorNumber = "EPERM";
  };

  # Becomes the server's user, with its folders and credentials, and works whether the server runs or not.
  command = pkgs.writeShellScriptBin "snowbankd" ''
    if [ "$(id -u)" != 0 ]; then
      echo "snowbankd: run this as root; it becomes the server's user by itself" >&2
      exit 1
    fi
    exec systemd-run --quiet --collect --pipe --wait --service-type=exec --unit=snowbankd-command \
      ${lib.escapeShellArgs (map (property: "--property=${property}") properties)} \
      ${snowbankd} --config ${configFile "snowbankd-command"} "$@"
  '';
  properties = builtins.concatLists (lib.mapAttrsToList
    (name: value: map (one: "${name}=${asProperty one}") (if builtins.isList value then value else [ value ]))
    identity);
  asProperty = value: if builtins.isBool value then (if value then "yes" else "no") else toString value;

  ensureCache = name: cache:
    [ snowbankd "--config" "${configFile "snowbankd-caches"}" "cache" "ensure" name ]
    # What is null says nothing, so that what was set on the server stays.
    ++ optionals (cache.public != null) [ (if cache.public then "--public" else "--private") ]
    ++ optionals (cache.priority != null) [ "--priority" (toString cache.priority) ]
    ++ optionals (cache.description != null) [ "--description" cache.description ]
    ++ optionals (cache.retention != null) [ "--retention" cache.retention ]
    ++ optionals (cache.maxSize != null) [ "--max-size" cache.maxSize ]
    ++ optionals (cache.wantMassQuery != null) [ "--want-mass-query" (lib.boolToString cache.wantMassQuery) ]
    ++ optional (cache.upstreamKeys == [ ]) "--no-upstream-keys"
    ++ builtins.concatMap (key: [ "--upstream-key" key ]) (first cache.upstreamKeys [ ])
    ++ optionals (cache.compressionLevel != null) [ "--compression-level" (toString cache.compressionLevel) ]
    ++ optionals (cache.storeDir != null) [ "--store-dir" cache.storeDir ]
    ++ optional cache.isolated "--isolated";

  cacheOptions = {
    public = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = "Whether anyone may read the cache, or only tokens that name it. A new cache is private unless this is `true`.";
    };
    priority = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      description = "What Nix sorts substituters by, the lowest first; cache.nixos.org has 40. The server's default is 41.";
    };
    description = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "What the cache is for, shown where caches are listed.";
    };
    retention = mkOption {
      type = types.nullOr (types.strMatching "never|default|[0-9]+ ?[smhd]");
      default = null;
      example = "90d";
      description = ''
        For how long a path is kept that nobody asks for; `never` removes none for its age, and `default` is
        `settings.gc.retention`.
      '';
    };
    maxSize = mkOption {
      type = types.nullOr (types.strMatching "none|default|${sizePattern}");
      default = null;
      example = "200GB";
      description = "The most that the cache may hold, or `none`. `default` is no limit of its own.";
    };
    upstreamKeys = mkOption {
      type = types.nullOr (types.listOf types.str);
      default = null;
      example = [ "cache.nixos.org-1" ];
      description = ''
        Names of keys: a path that is signed by one of them is upstream's, and need not be pushed. An empty list means no upstream.
      '';
    };
    wantMassQuery = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = "Whether Nix may ask this cache for many paths at once, as it does for whole closures. A new cache says yes.";
    };
    storeDir = mkOption {
      type = types.nullOr (types.strMatching "/.+");
      default = null;
      example = "/nix/store";
      description = "The store that the cache's paths belong to. Only a new cache can have another one than `/nix/store`.";
    };
    compressionLevel = mkOption {
      type = types.nullOr (types.ints.between 1 19);
      default = null;
      description = "The zstd level that clients are asked for; `settings.compression.level` unless said otherwise.";
    };
    isolated = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether the cache shares no chunks with others, so that nobody who pushes elsewhere can learn what is in it. Only a new
        cache can be made so; `false` says nothing about one that is there.
      '';
    };
  };

  # As the server sees it: a password in the address, or among what stands behind its `?`.
  hasPassword = url:
    let parts = builtins.match "postgres(ql)?://([^?]*)(\\?.*)?" url; in
    parts != null && (
      builtins.match "[^@]*:.*@[^@]*" (builtins.elemAt parts 1) != null
      || builtins.match ".*[?&]password=.*" (first (builtins.elemAt parts 2) "") != null
    );

  # What the server refuses with SQLite.
  forPostgres = builtins.filter (name: settings.database.${name} != null)
    [ "connections" "statement-timeout" "idle-timeout" "tls" "tls-ca-file" ];
  # What it refuses with a folder for packs.
  forBucket = builtins.filter (name: settings.storage.${name} != null)
    (builtins.filter (name: !(builtins.elem name [ "type" "path" "min-free" "cache" ])) (builtins.attrNames declared.storage))
    ++ optional (settings.storage.cache.path != null) "cache";

  both = one: other: one != null && other != null;
  isPostgres = url: lib.hasPrefix "postgres:" url || lib.hasPrefix "postgresql:" url;
  address = settings.database.url;
  said = what: "services.snowbank: ${what}";
in
{
  options.services.snowbank = {
    enable = mkEnableOption "Snowbank, a Nix binary cache";

    package = mkOption {
      type = types.package;
      default = pkgs.snowbank or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.snowbank";
      description = "The package with `snowbankd`.";
    };

    user = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = ''
        A user that is there already and that the server runs as. Without one, systemd makes one up, which is enough as long as
        everything lies in `${stateDir}`; a folder elsewhere needs an owner that stays the same.
      '';
    };

    database = mkOption {
      type = types.enum [ "sqlite" "postgresql" ];
      default = "sqlite";
      description = "The database: a file in the data folder, or PostgreSQL.";
    };

    createLocally = mkOption {
      type = types.bool;
      default = false;
      description = "Whether PostgreSQL is set up on this machine, with a database and a user for the server, without a password.";
    };

    databaseUrlFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      example = "/run/secrets/snowbank-database-url";
      description = "A file with PostgreSQL's address, password included; the same as `settings.database.url-file`.";
    };

    serverKeyFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      example = "/run/secrets/snowbank-server-key";
      description = "The file with the server key; the same as `settings.server-key-file`.";
    };

    s3CredentialsFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      example = "/run/secrets/snowbank-s3";
      description = "A file as `~/.aws/credentials`; the same as `settings.storage.credentials-file`.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether the firewall lets clients reach the port of `settings.listen`.";
    };

    socketActivation = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether systemd keeps the socket of `settings.listen` open while the server restarts, so that an upgrade refuses no
        connection. A Unix socket is root's then, and `settings.socket-mode` says who else may connect.
      '';
    };

    caches = mkOption {
      type = types.attrsOf (types.submodule { options = cacheOptions; });
      default = { };
      example = { team = { public = true; retention = "90d"; }; };
      description = ''
        Caches that are to be there: made when they are not, and configured as said here. What is `null` here is left as it is. A cache
        that is taken out here stays on the server.
      '';
    };

    settings = optionsOf declared;
  };

  config = mkIf cfg.enable (mkMerge [
    {
      assertions = [
        {
          assertion = port != 0;
          message = said "`settings.listen` needs a port of its own, not 0";
        }
        {
          assertion = !cfg.openFirewall || !isUnix;
          message = said "`openFirewall` opens a port, and `settings.listen` is a Unix socket, which has none";
        }
        {
          assertion = settings.storage.secret-access-key == null && settings.storage.session-token == null;
          message = said "a secret in `settings.storage` would be readable by everybody in the Nix store; use `s3CredentialsFile`";
        }
        {
          assertion = address == null || !hasPassword address;
          message = said "the password in `settings.database.url` would be readable by everybody in the Nix store; use `databaseUrlFile`";
        }
        {
          assertion = address == null || settings.database.url-file == null;
          message = said "`settings.database.url` and `databaseUrlFile` are both given; keep one of the two";
        }
        {
          assertion = cfg.database != "sqlite" || (settings.database.url-file == null && (address == null || !isPostgres address));
          message = said "the address is PostgreSQL's; set `database = \"postgresql\"`";
        }
        {
          assertion = cfg.database != "postgresql" || settings.database.url-file != null || (address != null && isPostgres address);
          message = said "PostgreSQL has no address; set `createLocally`, `databaseUrlFile` or `settings.database.url`";
        }
        {
          assertion = cfg.database != "sqlite" || forPostgres == [ ];
          message = said "`settings.database` has what is for PostgreSQL alone: ${toString forPostgres}";
        }
        {
          assertion = settings.storage.type != "local" || forBucket == [ ];
          message = said "`settings.storage` has what is for a bucket: ${toString forBucket}; say `type = \"s3\"` as well";
        }
        {
          assertion = settings.storage.type != "s3" || (settings.storage.bucket != null && settings.storage.path == null);
          message = said "`settings.storage` with `type = \"s3\"` needs `bucket`, and has no `path`";
        }
        {
          assertion = !cfg.createLocally || (cfg.database == "postgresql" && cfg.settings.database.url == null);
          message = said "`createLocally` is for `database = \"postgresql\"` without an address";
        }
        {
          assertion = !(both cfg.databaseUrlFile cfg.settings.database.url-file)
            && !(both cfg.serverKeyFile cfg.settings.server-key-file)
            && !(both cfg.s3CredentialsFile cfg.settings.storage.credentials-file);
          message = said "a secret file is given twice, once of them in `settings`; keep one of the two";
        }
        {
          assertion = builtins.all (key: key.algorithm != "HS256" || !inStore key.file)
            (settings.auth.token-key ++ settings.auth.legacy-key);
          message = said "the secret of an HS256 key would be readable by everybody in the Nix store; name a file outside of it as a string";
        }
        {
          assertion = folders == [ ] || cfg.user != null;
          message = said "${toString folders} needs an owner that stays the same; set `user`";
        }
        {
          assertion = (settings.storage.cache.path == null) == (settings.storage.cache.max-size == null);
          message = said "`settings.storage.cache` needs both `path` and `max-size`";
        }
        {
          assertion = builtins.all (name: builtins.match "[A-Za-z0-9][A-Za-z0-9_+-]{0,49}" name != null) (builtins.attrNames cfg.caches);
          message = said "a cache's name has letters, digits, `_`, `+` and `-`, and at most 50 of them";
        }
      ];

      systemd.services.snowbankd = {
        description = "Snowbank, a Nix binary cache";
        documentation = [ "man:snowbankd(1)" ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ] ++ optional cfg.createLocally "postgresql.target";
        requires = optional cfg.createLocally "postgresql.target";
        # A bucket or a database may be away for longer than systemd is patient by itself.
        unitConfig.StartLimitIntervalSec = 0;
        serviceConfig = identity // hardening // {
          # Started once it serves. An upgrade of the schema comes before that, and may take its time.
          Type = "notify";
          NotifyAccess = "main";
          ExecStart = "${snowbankd} --config ${configFile "snowbankd"}";
          Restart = "on-failure";
          RestartSec = 5;
          TimeoutStartSec = "15min";
          # A server whose threads stand still, or whose database says nothing for so long, is started again.
          WatchdogSec = "2min";
          # For `listen = "unix:/run/snowbank/http.sock"`. The file's own mode says who may connect.
          RuntimeDirectory = "snowbank";
          RuntimeDirectoryMode = "0755";
          # A socket of systemd in it outlives the server.
          RuntimeDirectoryPreserve = true;
          # Pushes under way are let finish; one that is cut off is sent again by its client.
          TimeoutStopSec = "2min";
          LimitNOFILE = 131072;
        };
      };

      environment.etc."snowbank/snowbankd.toml".source = configFile "snowbankd";
      # The package has manual pages and completions, and this `snowbankd` goes before its own.
      environment.systemPackages = [ (lib.hiPrio command) cfg.package ];
    }

    (mkIf (cfg.caches != { }) {
      # A unit of its own: what is wrong with a cache's settings shows as a failed unit, and the server goes on serving.
      systemd.services.snowbankd-caches = {
        description = "Caches of Snowbank";
        # Also when the server comes up later than the machine did.
        wantedBy = [ "multi-user.target" "snowbankd.service" ];
        requires = [ "snowbankd.service" ];
        after = [ "snowbankd.service" ];
        script = lib.concatMapStringsSep "\n" lib.escapeShellArgs (lib.mapAttrsToList ensureCache cfg.caches);
        serviceConfig = identity // hardening // {
          Type = "oneshot";
          RemainAfterExit = true;
        };
      };
    })

    (mkIf cfg.createLocally {
      services.postgresql = {
        enable = true;
        ensureDatabases = [ user ];
        ensureUsers = [ { name = user; ensureDBOwnership = true; } ];
      };
    })

    (mkIf cfg.socketActivation {
      systemd.sockets.snowbankd = {
        description = "Sockets of Snowbank, a Nix binary cache";
        wantedBy = [ "sockets.target" ];
        listenStreams = [ (lib.removePrefix "unix:" cfg.settings.listen) ];
        socketConfig = {
          SocketMode = cfg.settings.socket-mode;
          Backlog = 4096;
          NoDelay = true;
        };
      };
    })

    (mkIf cfg.openFirewall { networking.firewall.allowedTCPPorts = [ port ]; })
  ]);
}
