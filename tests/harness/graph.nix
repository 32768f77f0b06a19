# @count@ derivations that refer to one another: scripts, text, binary data, symlinks, empty files and folders, each with
# paths of its dependencies and of itself in it, and about @kib@ KiB of data that is this closure's own (@tag@).
let
  at = builtins.elemAt packages;
  half = i: i / 2;
  third = i: i / 3;
  earlier = i: map at (builtins.filter (j: j < i)
    ([ (half i) ]
      ++ (if third i != half i then [ (third i) ] else [ ])
      ++ (if i > 6 && i - i / 7 * 7 == 3 then [ (i - 1) ] else [ ])));
  builder = builtins.toFile "builder.sh" ''
    mkdir -p $out/bin $out/share/doc $out/lib/empty $out/links
    {
      echo "#!/bin/sh"
      for dep in $deps; do echo "PATH=$dep/bin:\$PATH"; done
      echo "exec $out/lib/real-$number \"\$@\""
    } > $out/bin/run-$number
    chmod +x $out/bin/run-$number
    for dep in $deps; do
      ln -s $dep/share/doc/text $out/links/$(basename $dep)
      printf 'before\0%s/lib/libtest.so\0after\0' $dep >> $out/lib/binary
    done
    seq $number $((number + 400)) | sed "s/^/@tag@ $number /" > $out/share/doc/text
    seq 1 300 | sed "s|^|$out/share/doc/text line |" > $out/share/doc/own-paths
    awk -v seed=@seed@$number -v kib=@kib@ 'BEGIN {
      srand(seed)
      for (i = 0; i < kib * 16; i++) {
        line = ""
        for (j = 0; j < 16; j++) line = line sprintf("%04x", int(rand() * 65536))
        print line
      }
    }' > $out/lib/data
    touch $out/share/empty $out/lib/real-$number
    chmod +x $out/lib/real-$number
  '';
  make = i: derivation {
    name = "@tag@-${toString i}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    deps = earlier i;
    number = toString i;
    args = [ "-e" builder ];
  };
  packages = builtins.genList make @count@;
in packages
