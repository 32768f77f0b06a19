# The modules evaluated without nixpkgs: what becomes of the options of `services.snowbank` and `programs.snowbank`.
let
  lib = import ./lib.nix;

  script = name: text: { outPath = "/stand-in/${name}"; inherit text; };
  pkgs = {
    snowbank = "/stand-in/snowbank";
    writeShellScript = script;
    writeShellScriptBin = script;
    formats.toml = _: { generate = name: value: { outPath = "/stand-in/${name}"; inherit value; }; };
  };

  # `beside` is what another module of the same machine defines.
  evaluate = module: section: given: beside:
    let
      loaded = import module { inherit lib pkgs config; };
      config = { ${section}.snowbank = lib.fill "${section}.snowbank" loaded.options.${section}.snowbank given; };
      defined = lib.define (lib.mkMerge [ loaded.config beside ]);
    in
    defined // {
      problems = map (one: one.message) (builtins.filter (one: !one.assertion) (defined.assertions or [ ]));
    };

  server = given:
    let
      defined = evaluate ../module.nix "services" ({ enable = true; } // given) { };
      unit = defined.systemd.services.snowbankd;
    in
    {
      inherit (defined) problems;
      toml = defined.environment.etc."snowbank/snowbankd.toml".source.value;
      credentials = unit.serviceConfig.LoadCredential or [ ];
      service = unit.serviceConfig;
      unit = removeAttrs unit [ "serviceConfig" ];
      caches = defined.systemd.services.snowbankd-caches.script or null;
      cachesService = defined.systemd.services.snowbankd-caches.serviceConfig or null;
      command = (builtins.head defined.environment.systemPackages).text;
      postgresql = defined.services.postgresql or null;
      socket = defined.systemd.sockets.snowbankd or null;
      ports = defined.networking.firewall.allowedTCPPorts or [ ];
    };

  client = given: clientBeside given { };
  clientBeside = given: beside:
    let defined = evaluate ../client.nix "programs" ({ enable = true; } // given) beside; in
    {
      inherit (defined) problems;
      toml = defined.environment.etc."snowbank/client.toml".source.value;
      nix = defined.nix.settings;
      queue = defined.systemd.services.snowbank-queue or null;
      tmpfiles = defined.systemd.tmpfiles.rules or [ ];
      users = builtins.attrNames (defined.users.users or { });
    };
in
{
  inherit server client clientBeside;
}
