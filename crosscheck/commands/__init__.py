"""The subcommands, one file each; `crosscheck.cli` registers them."""
