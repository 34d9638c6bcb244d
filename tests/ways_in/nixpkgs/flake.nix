# A double of nixpkgs: what the workspace's flake.nix uses of it, made of this machine's programs (host.json, written
# by tests/ways_in/nix.py). It proves attributes, variables and PATH of the shell, and nothing about nixpkgs itself.
{
  outputs =
    _:
    let
      host = builtins.fromJSON (builtins.readFile ./host.json);
      lib = rec {
        genAttrs = names: f: builtins.listToAttrs (map (name: { inherit name; value = f name; }) names);
        optionalAttrs = condition: attrs: if condition then attrs else { };
        concatMapStringsSep = separator: f: list: builtins.concatStringsSep separator (map f list);
        makeLibraryPath = concatMapStringsSep ":" (package: "${package}/lib");
        makeBinPath = concatMapStringsSep ":" (package: "${package}/bin");
        getExe = package: "${package}/bin/${package.pname}";
      };
      packagesFor =
        system:
        let
          build = name: script: more: derivation ({
            inherit name system script;
            builder = host.bash;
            passAsFile = [ "script" ];
            args = [ "-euc" "PATH=/usr/bin:/bin; . \"$scriptPath\"" ];
          } // more);
          linked = folder: name: files: build name
            (builtins.concatStringsSep "\n" ([ ''mkdir -p "$out/${folder}"'' ] ++ map (file: ''test -e '${file}' && ln -s '${file}' "$out/${folder}/"'') files))
            { } // { pname = name; version = "of this machine"; };
          script = name: text: build name
            ''mkdir -p "$out/bin"; { echo "#!${host.bash}"; cat "$textPath"; } > "$out/bin/${name}"; chmod +x "$out/bin/${name}"''
            { inherit text; passAsFile = [ "script" "text" ]; } // { pname = name; version = "none"; };
          # A linter that this machine lacks says so instead of judging; of others that are absent there is no program.
          silent = name: script name ''echo "left out by the double of nixpkgs: ${name}" >&2'';
          programs = builtins.mapAttrs (name: files: if files == null then silent name else linked "bin" name files) host.programs;
          libraries = builtins.mapAttrs (linked "lib") host.libraries;
        in
        programs // {
          stdenv = {
            isLinux = true;
            cc = { cc.lib = libraries.gcc-lib; bintools.dynamicLinker = host.loader; };
          };
          inherit (libraries) zlib;
          # Nix judges a hash by its form when it makes the derivation; the file itself is not fetched.
          metabase = programs.metabase // {
            overrideAttrs = { version, src }:
              if builtins.replaceStrings [ "/v${version}/" ] [ "" ] src.url == src.url
              then throw "Metabase ${version} is not at ${src.url}"
              else builtins.seq src.drvPath programs.metabase;
          };
          fetchurl = { url, hash }: derivation {
            inherit system url;
            name = baseNameOf url;
            builder = "builtin:fetchurl";
            outputHash = hash;
            outputHashMode = "flat";
          };
          writeShellApplication = { name, text, runtimeInputs ? [ ], runtimeEnv ? { } }: script name ''
            set -euo pipefail
            ${lib.concatMapStringsSep "\n" (key: "export ${key}='${runtimeEnv.${key}}'") (builtins.attrNames runtimeEnv)}
            export PATH="${lib.makeBinPath runtimeInputs}:$PATH"
            ${text}
          '';
          runCommand = name: attrs: text: build name ''
            PATH="${lib.makeBinPath (attrs.nativeBuildInputs or [ ])}:$PATH"
            ${text}'' (removeAttrs attrs [ "nativeBuildInputs" ]);
          mkShellNoCC = attrs: derivation (removeAttrs attrs [ "packages" ] // {
            name = "shell";
            inherit system;
            builder = host.bash;
            args = [ "-c" "/usr/bin/touch $out" ];
            outputs = [ "out" ];
            stdenv = build "stdenv" ''mkdir "$out"; echo 'export PATH="$inputs:/usr/bin:/bin"' > "$out/setup"'' { };
            inputs = lib.makeBinPath (attrs.packages or [ ]);
          });
        };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" "aarch64-darwin" ] packagesFor;
    };
}
