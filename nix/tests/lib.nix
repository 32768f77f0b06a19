# As much of nixpkgs' `lib` as the modules use, so that they can be evaluated where there is no nixpkgs.
#
# A type here is a check and what becomes of a value that passes. There are no priorities, and a value has one definition.
rec {
  mkOption = option: option // { _type = "option"; };
  mkEnableOption = _: mkOption { type = types.bool; default = false; description = ""; };
  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  literalExpression = text: text;
  hiPrio = package: package;

  optional = condition: value: optionals condition [ value ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: attrs: if condition then attrs else { };
  filterAttrs = keep: attrs:
    removeAttrs attrs (builtins.filter (name: !keep name attrs.${name}) (builtins.attrNames attrs));
  mapAttrsToList = f: attrs: map (name: f name attrs.${name}) (builtins.attrNames attrs);
  concatMapStringsSep = separator: f: values: builtins.concatStringsSep separator (map f values);
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  escapeShellArgs = concatMapStringsSep " " (arg: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] arg}'");

  types =
    let
      plain = check: { inherit check; merge = _: value: value; };
    in
    rec {
      bool = plain builtins.isBool;
      str = plain builtins.isString;
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
        check = value: value == null || type.check value;
        merge = where: value: if value == null then null else type.merge where value;
      };
      either = one: other: {
        check = value: one.check value || other.check value;
        merge = where: value: if one.check value then one.merge where value else other.merge where value;
      };
      listOf = type: {
        check = value: builtins.isList value && builtins.all type.check value;
        merge = where: map (type.merge where);
      };
      attrsOf = type: {
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
        else if !(given ? ${name}) then node.default or (throw "${here} has no value")
        else if !node.type.check given.${name} then throw "${here} cannot be ${builtins.toJSON given.${name}}"
        else node.type.merge here given.${name};
    in
    if unknown != [ ] then throw "${where} has no option ${toString unknown}" else builtins.mapAttrs of tree;

  # What a module defines, with its conditions decided and its parts put together.
  define = content:
    let
      parts = part:
        if (part._type or null) == "if" then optionals part.condition (parts part.content)
        else if (part._type or null) == "merge" then builtins.concatMap parts part.contents
        else [ part ];
      join = builtins.foldl' merge { };
      merge = one: other: one // builtins.mapAttrs
        (name: value:
          if !(one ? ${name}) then value
          else if builtins.isList value then one.${name} ++ value
          else if builtins.isAttrs value then merge one.${name} value
          else throw "${name} is defined twice")
        other;
    in
    join (parts content);
}
