"""One minute before a long run: does this machine hold what the run needs?

`plan` says what the run will ask for, `facts` looks at the machine, `probes` tries the network, the memory and the
ranks in processes of their own; `software_checks`, `device_checks` and `run_checks` turn all that into findings, and
`examination` does it in order.
"""
