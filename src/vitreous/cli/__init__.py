"""The command line: parse, one public call, print. Nobody imports it."""
