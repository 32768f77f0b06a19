# From the module's settings to the contents of the config file. Needs no nixpkgs.
#
# What is not set or equal to its default is left out, so that the file says what was chosen. Secret files are replaced by the
# places at which systemd shows them to the unit, and listed for its LoadCredential.
{
  # As options.nix declares them.
  options,
  # A value for each of them.
  settings,
  # Where the unit finds its credentials.
  credentialsDirectory,
}:
let
  inherit (builtins) attrNames concatLists concatStringsSep elemAt filter genList isAttrs length listToAttrs;

  isOption = node: node ? description;
  isTables = option: isAttrs option.type && option.type ? tables;
  # The file of a token key is loaded too: where it is a shared secret, its owner is root.
  isFile = path: option:
    option.type == "secret-file"
    || path == [ "auth" "token-key" "file" ]
    || path == [ "auth" "legacy-key" "file" ];

  # Strings, so that no folder is copied into the Nix store because it is written as a path.
  isFolder = option: option.type == "folder";
  # A file of the configuration itself, such as a public key beside it, has to stay in the store for as long as the unit is there.
  sourceOf = file:
    if builtins.isPath file && builtins.substring 0 (builtins.stringLength builtins.storeDir) (toString file) == builtins.storeDir
    then "${file}"
    else toString file;

  # A credential's name is its key's, such as `database-url-file` or `auth-token-key-0-file`.
  nameOf = place: concatStringsSep "-" place;

  # Both walk the same tree: `path` is the key's, `place` also counts tables.
  value = path: place: option: given:
    if isFile path option then "${credentialsDirectory}/${nameOf place}"
    else if isFolder option then toString given
    else if isTables option then
      genList (n: section path (place ++ [ (toString n) ]) option.type.tables (elemAt given n)) (length given)
    else given;

  isSet = option: given: given != null && !(option ? default && given == option.default);

  section = path: place: nodes: given:
    let
      of = name:
        let node = nodes.${name}; in
        if isOption node then
          if isSet node given.${name} then value (path ++ [ name ]) (place ++ [ name ]) node given.${name} else null
        else
          let below = section (path ++ [ name ]) (place ++ [ name ]) node given.${name}; in
          if below == { } then null else below;
      entries = map (name: { inherit name; value = of name; }) (attrNames nodes);
    in
    listToAttrs (filter (entry: entry.value != null) entries);

  files = path: place: nodes: given:
    let
      of = name:
        let
          node = nodes.${name};
          below = given.${name};
          here = place ++ [ name ];
        in
        if !isOption node then files (path ++ [ name ]) here node below
        else if !isSet node below then [ ]
        else if isFile (path ++ [ name ]) node then [ { name = nameOf here; source = sourceOf below; } ]
        else if isTables node then
          concatLists (genList
            (n: files (path ++ [ name ]) (here ++ [ (toString n) ]) node.type.tables (elemAt below n))
            (length below))
        else [ ];
    in
    concatLists (map of (attrNames nodes));
in
{
  toml = section [ ] [ ] options settings;
  credentials = files [ ] [ ] options settings;
}
