# A NixOS test with a server and a machine that pushes to it and fetches from it, over declarative caches, with and without a token.
{ pkgs, modules }:
{
  name = "snowbank";

  nodes = {
    server = {
      imports = [ modules.default ];
      services.snowbank = {
        enable = true;
        database = "postgresql";
        createLocally = true;
        openFirewall = true;
        settings.listen = "0.0.0.0:8080";
        settings.public-url = "http://server:8080";
        caches = {
          team = { public = true; priority = 30; retention = "90d"; };
          secret = { public = false; maxSize = "1GiB"; };
        };
      };
    };

    client = {
      imports = [ modules.client ];
      programs.snowbank = {
        enable = true;
        servers.server = { url = "http://server:8080"; tokenFile = "/root/token"; default = true; };
        netrcFile = "/root/netrc";
      };
      # Paths that are in the machine's store from the start, and have to come back from the caches.
      system.extraDependencies = [ pkgs.hello ];
      virtualisation.writableStore = true;
    };
  };

  testScript = ''
    hello = "${pkgs.hello}"

    start_all()
    server.wait_for_unit("snowbankd.service")
    server.wait_for_unit("snowbankd-caches.service")
    server.wait_for_open_port(8080)

    with subtest("caches can be declared again, and nothing changes"):
        before = server.succeed("curl --fail http://localhost:8080/team/nix-cache-info")
        server.succeed("systemctl restart snowbankd-caches.service")
        assert before == server.succeed("curl --fail http://localhost:8080/team/nix-cache-info")
        assert "Priority: 30" in before

    with subtest("the database is PostgreSQL, reached without a password"):
        server.succeed("sudo -u postgres psql snowbank -c 'SELECT count(*) FROM paths'")

    with subtest("a token is made beside the running server"):
        token = server.succeed(
            "snowbankd token create --sub test --push team,secret --pull team,secret --expires 1d"
        ).strip()
        client.succeed(f"umask 077; echo '{token}' > /root/token")
        client.succeed(f"umask 077; echo 'machine server login snowbank password {token}' > /root/netrc")

    with subtest("a closure is pushed, and pushed again"):
        for cache in ["team", "secret"]:
            client.succeed(f"snowbank push {cache} --no-upstream-filter {hello}")
            client.succeed(f"snowbank push {cache} --no-upstream-filter {hello}")

    def fetch(cache, options=""):
        key = client.succeed(f"snowbank use {cache} --print | sed -n 's/^extra-trusted-public-keys = //p'").strip()
        return (
            "rm -rf /root/store /root/.cache/nix; "
            f"nix --extra-experimental-features nix-command copy --to /root/store --from http://server:8080/{cache} "
            f"--option trusted-public-keys '{key}' {options} {hello}"
        )

    with subtest("a public cache is for everybody, a private one for who has the token"):
        client.succeed(fetch("team", "--option netrc-file /dev/null"))
        client.succeed(fetch("secret"))
        client.fail(fetch("secret", "--option netrc-file /dev/null"))
        client.succeed(f"/root/store{hello}/bin/hello")

    with subtest("a restart keeps everything"):
        server.succeed("systemctl restart snowbankd.service")
        client.succeed(fetch("team"))
        server.succeed("snowbankd check --read-data")

    with subtest("the unit is confined"):
        server.succeed("test $(stat -L -c %a /var/lib/private/snowbank) = 700")
        server.fail("grep -r secret-access-key /etc/snowbank")
  '';
}
