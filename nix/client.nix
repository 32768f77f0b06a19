# The NixOS module of machines that push to a Snowbank or fetch from one: `programs.snowbank`.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkEnableOption mkIf mkMerge mkOption types;

  cfg = config.programs.snowbank;

  secretFile = types.addCheck types.str
    (file: lib.hasPrefix "/" file && !lib.hasPrefix "${builtins.storeDir}/" file) // {
    description = "absolute path, as a string, outside of the Nix store";
  };

  serverOptions = {
    url = mkOption {
      type = types.strMatching "https?://[^ ]+";
      example = "https://cache.example.org";
      description = "The server's address, without a cache.";
    };
    tokenFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      example = "/run/secrets/snowbank-token";
      description = "A file with the token for pushing, readable for those who push.";
    };
    exclude = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "-debug$" ];
      description = "Regular expressions: paths whose name has a match of one are not pushed there.";
    };
    only = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "^blog-" ];
      description = "Regular expressions: if there are any, paths whose name has no match are not pushed there.";
    };
    maxPathSize = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "2GiB";
      description = "Paths with a larger NAR are not pushed there.";
    };
    default = mkOption {
      type = types.bool;
      default = false;
      description = "Whether this server is meant where a cache is named without one.";
    };
  };

  cacheOptions = {
    server = mkOption {
      type = types.nullOr types.str;
      default = null;
      description = "The server, by its name in `servers`.";
    };
    url = mkOption {
      type = types.nullOr (types.strMatching "https?://[^ ]+");
      default = null;
      description = "The server's address, where `servers` does not have it.";
    };
    name = mkOption {
      type = types.strMatching "[A-Za-z0-9][A-Za-z0-9_+-]*";
      example = "team";
      description = "The cache's name.";
    };
    publicKeys = mkOption {
      type = types.listOf (types.strMatching "[^: ]+:[A-Za-z0-9+/=]+");
      description = "The keys that sign its paths, at least one, as `snowbank use --print` shows them. During a rotation there are several.";
    };
    priority = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      description = "What Nix sorts substituters by, the lowest first, instead of what the cache says of itself.";
    };
  };

  withoutSlash = url:
    let shorter = builtins.match "(.*)/" url; in
    if shorter == null then url else withoutSlash (builtins.head shorter);
  baseUrl = cache: withoutSlash (if cache.url != null then cache.url else cfg.servers.${cache.server}.url);
  substituter = cache:
    "${baseUrl cache}/${cache.name}${if cache.priority == null then "" else "?priority=${toString cache.priority}"}";

  defaults = builtins.attrNames (lib.filterAttrs (_: server: server.default) cfg.servers);
  said = what: "programs.snowbank: ${what}";
  clientConfig = name: tokenFile: (pkgs.formats.toml { }).generate name (
    lib.optionalAttrs (defaults != [ ]) { default-server = builtins.head defaults; }
    // {
      servers = builtins.mapAttrs
        (name: server:
          { inherit (server) url; }
          // lib.optionalAttrs (server.tokenFile != null) { token-file = tokenFile name server; }
          // lib.optionalAttrs (server.exclude != [ ]) { inherit (server) exclude; }
          // lib.optionalAttrs (server.only != [ ]) { inherit (server) only; }
          // lib.optionalAttrs (server.maxPathSize != null) { max-path-size = server.maxPathSize; })
        cfg.servers;
    }
  );

  # Everything that this machine builds is pushed: Nix's hook queues it as root, and a service with a user of its own pushes it.
  pushes = cfg.push.server != null && cfg.push.cache != null;
  queueDir = "/var/lib/snowbank-queue";
  queueUser = "snowbank-queue";
  credential = name: "token-${name}";
  queueConfig = clientConfig "snowbank-queue.toml" (name: _: "/run/credentials/snowbank-queue.service/${credential name}");
  hook = pkgs.writeShellScript "snowbank-hook" ''
    exec ${cfg.package}/bin/snowbank hook ${lib.escapeShellArgs [ "${toString cfg.push.server}:${toString cfg.push.cache}" "--queue" queueDir ]}
  '';

  ofNix = default: type: description: mkOption { type = types.nullOr type; inherit default description; };
in
{
  options.programs.snowbank = {
    enable = mkEnableOption "the client of Snowbank, a Nix binary cache";

    package = mkOption {
      type = types.package;
      default = pkgs.snowbank or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.snowbank";
      description = "The package with `snowbank`.";
    };

    servers = mkOption {
      type = types.attrsOf (types.submodule { options = serverOptions; });
      default = { };
      description = "Servers to push to, by a short name, for all users of this machine.";
    };

    caches = mkOption {
      type = types.listOf (types.submodule { options = cacheOptions; });
      default = [ ];
      description = "Caches that Nix fetches from, besides those that it has already.";
    };

    netrcFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      example = "/run/secrets/netrc";
      description = ''
        The file with what Nix shows to private caches, a line for each host:
        `machine cache.example.org login snowbank password TOKEN`.
      '';
    };

    push = {
      server = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "work";
        description = "The server, by its name in `servers`, that gets everything that this machine builds. It needs a `tokenFile`.";
      };
      cache = mkOption {
        type = types.nullOr (types.strMatching "[A-Za-z0-9][A-Za-z0-9_+-]*");
        default = null;
        example = "team";
        description = ''
          The cache on that server. Nix's `post-build-hook` queues what is built in `${queueDir}`, and the service `snowbank-queue`
          pushes it. `snowbank queue list --queue ${queueDir}` shows what waits.
        '';
      };
    };

    fallback = ofNix true types.bool "Whether Nix builds what a cache has and cannot deliver, rather than to fail.";
    connectTimeout = ofNix 5 types.ints.unsigned "Seconds after which a cache that does not answer is passed over.";
    stalledDownloadTimeout = ofNix 60 types.ints.unsigned "Seconds after which a download that stands still is begun anew.";
    downloadAttempts = ofNix 3 types.ints.unsigned "How often a download is tried.";
    narinfoCacheNegativeTtl = ofNix 60 types.ints.unsigned ''
      Seconds for which Nix remembers that a cache does not have a path; an hour unless said otherwise, for which it would not see
      what was pushed meanwhile.
    '';
  };

  config = mkIf cfg.enable (mkMerge [{
    assertions = [
      {
        assertion = builtins.length defaults <= 1;
        message = said "there can be one default server, and these are: ${toString defaults}";
      }
      {
        assertion = builtins.all (cache: (cache.server == null) != (cache.url == null)) cfg.caches;
        message = said "each of `caches` needs `server` or `url`, and one of them only";
      }
    ] ++ map
      (cache: {
        assertion = cache.publicKeys != [ ];
        message = said "Nix takes nothing from the cache `${cache.name}` without its `publicKeys`; `snowbank use --print` shows them";
      })
      cfg.caches ++ map
      (cache: {
        assertion = cache.server == null || cfg.servers ? ${cache.server};
        message = said "there is no server `${toString cache.server}` for the cache `${cache.name}`";
      })
      cfg.caches ++ [
      {
        assertion = (cfg.push.server == null) == (cfg.push.cache == null);
        message = said "`push.server` and `push.cache` need each other";
      }
      {
        assertion = cfg.push.server == null || cfg.servers ? ${cfg.push.server};
        message = said "there is no server `${toString cfg.push.server}` for `push.server`";
      }
      {
        assertion = cfg.push.server == null || (cfg.servers.${cfg.push.server}.tokenFile or "") != null;
        message = said "the server `${toString cfg.push.server}` of `push.server` needs a `tokenFile`";
      }
    ];

    environment.systemPackages = [ cfg.package ];
    environment.etc."snowbank/client.toml".source = clientConfig "client.toml" (_: server: server.tokenFile);

    nix.settings = {
      extra-substituters = map substituter cfg.caches;
      extra-trusted-public-keys = builtins.concatMap (cache: cache.publicKeys) cfg.caches;
    } // lib.optionalAttrs (cfg.netrcFile != null) {
      netrc-file = cfg.netrcFile;
    } // lib.optionalAttrs pushes {
      post-build-hook = hook;
    } // lib.mapAttrs (_: lib.mkDefault) (lib.filterAttrs (_: value: value != null) {
      # Defaults, so that a configuration that has them in `nix.settings` already goes on as it is.
      inherit (cfg) fallback;
      connect-timeout = cfg.connectTimeout;
      stalled-download-timeout = cfg.stalledDownloadTimeout;
      download-attempts = cfg.downloadAttempts;
      narinfo-cache-negative-ttl = cfg.narinfoCacheNegativeTtl;
    });
  } (mkIf pushes {
    users = {
      users.${queueUser} = {
        isSystemUser = true;
        group = queueUser;
        home = queueDir;
      };
      groups.${queueUser} = { };
    };

    systemd = {
      # Root's hook and the service share it: what either makes belongs to the group.
      tmpfiles.rules = [ "d ${queueDir} 2770 ${queueUser} ${queueUser} -" ];
      services.snowbank-queue = {
        description = "Snowbank, pushing what this machine builds";
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" "nix-daemon.socket" ];
        startLimitIntervalSec = 0;
        serviceConfig = {
          ExecStart = "${cfg.package}/bin/snowbank --config ${queueConfig} queue run --queue ${queueDir}";
          Restart = "on-failure";
          RestartSec = 5;
          # What was being pushed is pushed when the service starts again.
          SuccessExitStatus = 143;
          TimeoutStopSec = 30;
          Nice = 10;
          User = queueUser;
          Group = queueUser;
          LoadCredential = lib.mapAttrsToList (name: server: "${credential name}:${server.tokenFile}")
            (lib.filterAttrs (_: server: server.tokenFile != null) cfg.servers);
          ReadWritePaths = [ queueDir ];
          UMask = "0007";
          NoNewPrivileges = true;
          CapabilityBoundingSet = "";
          ProtectSystem = "strict";
          ProtectHome = true;
          PrivateTmp = true;
          PrivateDevices = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
          ProtectControlGroups = true;
          ProtectProc = "invisible";
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          RestrictAddressFamilies = [ "AF_INET" "AF_INET6" "AF_UNIX" ];
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictSUIDSGID = true;
          SystemCallArchitectures = "native";
          SystemCallFilter = [ "@system-service" "~@privileged @resources" ];
          SystemCallErrorNumber = "EPERM";
        };
      };
    };
  })]);
}
