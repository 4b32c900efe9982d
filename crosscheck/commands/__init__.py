"""The subcommands, one file each; `crosscheck.commands.cli` registers them."""
