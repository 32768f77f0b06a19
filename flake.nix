{
  description = "Snowbank, a self-hosted Nix binary cache";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      linux = [ "x86_64-linux" "aarch64-linux" ];
      all = linux ++ [ "x86_64-darwin" "aarch64-darwin" ];
      for = systems: f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      # On Darwin the package has the client alone.
      packages = for all (pkgs: rec {
        snowbank = pkgs.callPackage ./nix/package.nix { };
        default = snowbank;
      });

      overlays.default = final: _: { snowbank = final.callPackage ./nix/package.nix { }; };

      nixosModules = {
        default = ./nix/module.nix;
        client = ./nix/client.nix;
      };

      checks = for linux (pkgs: {
        vm = pkgs.testers.runNixOSTest (import ./nix/vm-test.nix { inherit pkgs; modules = self.nixosModules; });
      });

      devShells = for all (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.default ];
          packages = with pkgs; [ cargo-nextest clippy rust-analyzer rustfmt ]
            ++ lib.optionals stdenv.hostPlatform.isLinux [ nginx postgresql rclone ];
        };
      });
    };
}
