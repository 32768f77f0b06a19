# As much of nixpkgs' `lib` as the modules use, so that they can be evaluated where there is no nixpkgs.
#
# A type here is a check and what becomes of a value that passes, and what a required option is where nobody gives it: for lists and
# sets that is nothing in them, as in nixpkgs. Of what modules define, the lowest priority counts; `mkDefault` has a high one.
rec {
  mkOption = option: option // { _type = "option"; };
  mkEnableOption = _: mkOption { type = types.bool; default = false; description = ""; };
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  literalExpression = text: text;
  hiPrio = package: package;

  optional = condition: value: optionals condition [ value ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: attrs: if condition then attrs else { };
  filterAttrs = keep: attrs:
    removeAttrs attrs (builtins.filter (name: !keep name attrs.${name}) (builtins.attrNames attrs));
  inherit (builtins) mapAttrs;
  boolToString = value: if value then "true" else "false";
  mapAttrsToList = f: attrs: map (name: f name attrs.${name}) (builtins.attrNames attrs);
  concatMapStringsSep = separator: f: values: builtins.concatStringsSep separator (map f values);
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  removePrefix = prefix: text:
    if hasPrefix prefix text then builtins.substring (builtins.stringLength prefix) (-1) text else text;
  escapeShellArgs = concatMapStringsSep " " (arg: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] arg}'");

  types =
    let
      plain = check: { inherit check; merge = _: value: value; };
    in
    rec {
      bool = plain builtins.isBool;
      str = plain builtins.isString;
      # A path literal is a value of its own, which is copied into the store where it becomes part of a text.
      path = plain (value: builtins.isPath value || (builtins.isString value && hasPrefix "/" value));
      package = plain (_: true);
      enum = values: plain (value: builtins.elem value values);
      ints = {
        unsigned = plain (value: builtins.isInt value && value >= 0);
        between = least: most: plain (value: builtins.isInt value && value >= least && value <= most);
      };
      strMatching = pattern: plain (value: builtins.isString value && builtins.match pattern value != null);
      addCheck = type: check: type // { check = value: type.check value && check value; };
      nullOr = type: {
        emptyValue.value = null;
        check = value: value == null || type.check value;
        merge = where: value: if value == null then null else type.merge where value;
      };
      either = one: other: {
        check = value: one.check value || other.check value;
        merge = where: value: if one.check value then one.merge where value else other.merge where value;
      };
      listOf = type: {
        emptyValue.value = [ ];
        check = value: builtins.isList value && builtins.all type.check value;
        merge = where: map (type.merge where);
      };
      attrsOf = type: {
        emptyValue.value = { };
        check = value: builtins.isAttrs value && builtins.all type.check (builtins.attrValues value);
        merge = where: builtins.mapAttrs (name: type.merge "${where}.${name}");
      };
      submodule = module: {
        check = builtins.isAttrs;
        merge = where: fill where module.options;
      };
    };

  # The value of every option in a tree: what is given, checked, or the default. A key that is no option is an error.
  fill = where: tree: given:
    let
      unknown = builtins.filter (name: !(tree ? ${name})) (builtins.attrNames given);
      of = name: node:
        let here = "${where}.${name}"; in
        if (node._type or null) != "option" then fill here node (given.${name} or { })
        else if !(given ? ${name}) then node.default or node.type.emptyValue.value or (throw "${here} has no value")
        else if !node.type.check given.${name} then throw "${here} cannot be ${builtins.toJSON given.${name}}"
        else node.type.merge here given.${name};
    in
    if unknown != [ ] then throw "${where} has no option ${toString unknown}" else builtins.mapAttrs of tree;

  # What modules define, with their conditions decided, their parts put together, and priorities settled.
  define = content:
    let
      parts = part:
        if (part._type or null) == "if" then optionals part.condition (parts part.content)
        else if (part._type or null) == "merge" then builtins.concatMap parts part.contents
        else [ part ];
      isOverride = value: builtins.isAttrs value && (value._type or null) == "override";
      priority = value: if isOverride value then value.priority else 100;
      valueOf = value: if isOverride value then value.content else value;
      join = builtins.foldl' merge { };
      merge = one: other: one // builtins.mapAttrs
        (name: value:
          let before = one.${name}; in
          if !(one ? ${name}) || priority value < priority before then value
          else if priority value > priority before then before
          else if builtins.isList (valueOf value) then mkOverride (priority value) (valueOf before ++ valueOf value)
          else if builtins.isAttrs (valueOf value) then merge (valueOf before) (valueOf value)
          else if valueOf before == valueOf value then value
          else throw "${name} is defined twice")
        other;
      settled = value:
        if isOverride value then settled value.content
        # What has a string's form, such as a package, is whole.
        else if builtins.isAttrs value && !(value ? outPath) then builtins.mapAttrs (_: settled) value
        else value;
    in
    settled (join (parts content));
}
