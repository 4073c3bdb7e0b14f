"""One minute before a long run: does this machine hold what the run needs?

`plan` says what the run will ask for, `facts` looks at the machine, `probes` tries the network, the memory and the
ranks in processes of their own, `checks` turns both into findings, `examination` does it all in order.
"""
