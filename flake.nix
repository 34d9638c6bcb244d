{
  description = "Airflow on Celery, Meltano, dbt and DuckDB: everything in one lock, everything on this machine";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];
      eachSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});

      # Python's packages come from uv.lock. Programs come from here, since those inside wheels do not start on NixOS.
      # DuckDB is left out on purpose: the files of another version than the locked one may not open.
      first = pkgs: builtins.attrValues { inherit (pkgs) ruff uv; };
      servers = pkgs: builtins.attrValues { inherit (pkgs) postgresql_18 process-compose valkey; };
      tools = pkgs: [ pkgs.python311 ] ++ first pkgs ++ servers pkgs ++ [ pkgs.git ];

      linters = pkgs: builtins.attrValues { inherit (pkgs) deadnix nixfmt statix; };

      # What the scripts read; elt/layout.py and elt/config/process_env.py say what each is for.
      variables =
        pkgs:
        {
          UV_PYTHON = "${pkgs.python311}/bin/python3.11";
          UV_PYTHON_DOWNLOADS = "never";
          ELT_PROGRAMS = lib.makeBinPath (first pkgs);
          ELT_POSTGRES_BIN = "${pkgs.postgresql_18}/bin";
          ELT_VALKEY_SERVER = "${pkgs.valkey}/bin/valkey-server";
        }
        // lib.optionalAttrs pkgs.stdenv.isLinux {
          ELT_LOADER = pkgs.stdenv.cc.bintools.dynamicLinker;
          ELT_LIBRARY_PATH = lib.makeLibraryPath [
            pkgs.stdenv.cc.cc.lib
            pkgs.zlib
          ];
        };

      # The clone around the current folder, also where git is told of another repository; nothing, with the reason.
      findRoot = ''
        unset PYTHONPATH SOURCE_DATE_EPOCH
        root=$PWD
        until [ -z "$root" ] || [ -e "$root/elt/bootstrap/__main__.py" ]; do root=''${root%/*}; done
        if [ -z "$root" ]; then
          echo "elt-workspace: go into a clone of it, then try again" >&2
        elif ! env -u GIT_DIR -u GIT_WORK_TREE git -C "$root" rev-parse 2> /dev/null; then
          echo "elt-workspace: Nix would copy all of $root, secrets too, for others to read: 'git init' and 'git add -A' first" >&2
          root=
        fi
      '';

      shell =
        pkgs: more:
        pkgs.mkShellNoCC (
          variables pkgs
          // {
            packages = tools pkgs ++ linters pkgs ++ more;
            shellHook = ''
              ${findRoot}
              if [ -t 1 ]; then
                echo "elt-workspace: Airflow on Celery, Meltano, dbt and DuckDB, as uv.lock says"
                echo "  scripts/e2e.sh proves it, scripts/up.sh starts it; elt doctor says what is wrong"
                echo "  ${lib.concatMapStringsSep ", " (tool: "${tool.pname} ${tool.version}") (tools pkgs)}"
              fi
              if [ -n "$root" ]; then
                export PATH="${lib.makeBinPath (tools pkgs)}:''${UV_PROJECT_ENVIRONMENT:-$root/.venv}/bin:$PATH"
                "$root/scripts/bootstrap.sh" --quiet || echo "fix that, then scripts/bootstrap.sh" >&2
              fi
            '';
          }
        );

      metabase =
        pkgs:
        pkgs.metabase.overrideAttrs {
          version = "0.64.1";
          src = pkgs.fetchurl {
            url = "https://downloads.metabase.com/v0.64.1/metabase.jar";
            hash = "sha256-/+YA9TKHW008c47/vA9C+KGtf4JVy4dVafc7NmRe8R0=";
          };
        };

      app = pkgs: name: {
        type = "app";
        program = lib.getExe (
          pkgs.writeShellApplication {
            inherit name;
            runtimeInputs = tools pkgs;
            runtimeEnv = variables pkgs;
            text = ''
              ${findRoot}
              [ -n "$root" ] || exit 1
              exec "$root/scripts/${name}.sh" "$@"
            '';
          }
        );
      };
    in
    {
      devShells = eachSystem (pkgs: {
        default = shell pkgs [ ];
        bi = shell pkgs [
          (metabase pkgs)
          pkgs.jre_headless
        ];
      });

      apps = eachSystem (pkgs: lib.genAttrs [ "down" "e2e" "up" ] (app pkgs));

      checks = eachSystem (pkgs: {
        style = pkgs.runCommand "check-style" { nativeBuildInputs = linters pkgs; } ''
          nixfmt --check ${self}/flake.nix
          statix check ${self}/flake.nix
          deadnix --fail ${self}/flake.nix
          touch "$out"
        '';
      });

      formatter = eachSystem (pkgs: pkgs.nixfmt);
    };
}
