"""The ways into the workspace, as far as tests can have them: Nix with a double of nixpkgs, a container engine."""
