# Both programs, with their manual pages and completions. Where there is no server, on anything but Linux, the client alone.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
  withServer ? stdenv.hostPlatform.isLinux,
}:
let
  programs = [ "snowbank" ] ++ lib.optional withServer "snowbankd";
  crates = [ "snowbank-client" ] ++ lib.optional withServer "snowbank-server";
in
rustPlatform.buildRustPackage {
  pname = "snowbank";
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;

  src = lib.fileset.toSource {
    root = ../.;
    # The tests are not run, but they are members of the workspace, without which cargo does not begin.
    fileset = lib.fileset.unions [
      ../.cargo
      ../Cargo.lock
      ../Cargo.toml
      ../LICENSE
      ../client
      ../config.example.toml
      ../core
      ../migrations
      ../server
      ../tests
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = lib.concatMap (crate: [ "--package" crate ]) crates;

  # How the allocator behaves is decided when it is built. Cargo reads it from this very file; said here, it does not depend on what
  # else writes to that folder.
  env = lib.mapAttrs (_: toString) (lib.importTOML ../.cargo/config.toml).env;

  # They start PostgreSQL, nginx, object storages and Nix itself, which a build has not; tests/run runs them.
  doCheck = false;

  nativeBuildInputs = [ installShellFiles ];

  # The programs write their own pages and completions, so that these cannot be out of date.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) (
    lib.concatMapStrings (program: ''
      installShellCompletion --cmd ${program} \
        --bash <($out/bin/${program} completions bash) \
        --zsh <($out/bin/${program} completions zsh) \
        --fish <($out/bin/${program} completions fish)
      $out/bin/${program} man --output manual
    '') programs
    + ''
      installManPage manual/*
    ''
  );

  meta = {
    description = "Self-hosted Nix binary cache that stores and sends only what is new, with a receipt for every path";
    license = lib.licenses.asl20;
    mainProgram = "snowbank";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
