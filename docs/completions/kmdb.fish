complete -c kmdb -l live-source -d 'which way to the running kernel\'s memory: /proc/kcore, a BPF program, or whichever there is' -r -f -a "auto\t'/proc/kcore, else BPF'
kcore\t'/proc/kcore'
bpf\t'a BPF program'"
complete -c kmdb -s e -l execute -d 'run this command and exit; may be given several times' -r
complete -c kmdb -s f -l file -d 'run the commands of this file and exit' -r -F
complete -c kmdb -s o -l output -d 'how answers are written' -r -f -a "table\t'columns for people'
json\t'one JSON object a line'
csv\t'comma-separated values with a heading'"
complete -c kmdb -s d -l debug-dir -d 'more directories to look for debug files in, before the usual ones' -r -F
complete -c kmdb -l load-address -d 'the dump is raw physical memory (QEMU\'s pmemsave, a guest\'s memory file), whose first byte is that of this address; ADDR+LENGTH,ADDR if its pieces were at several' -r
complete -c kmdb -l qmp -d 'look at a guest under QEMU by its QMP socket, a path or HOST:PORT; every file named is then a debug file' -r
complete -c kmdb -l which-kernel -d 'of several kernels in memory take this one: its number in `::kernels`, or `crash` for the one that crashed' -r
complete -c kmdb -l triage-html -d 'write what `::triage` says of the dump to this file, a page for browsers that needs nothing else' -r -F
complete -c kmdb -l generate -d 'write the man page, a shell\'s completions or a page of the reference to standard output' -r -f -a "man\t'the man page'
bash\t'completions of the command line for bash'
zsh\t'for zsh'
fish\t'for fish'
dcmds\t'reference: dcmds'
walkers\t'reference: walkers'
formats\t'reference: verbs and format letters'
schema\t'reference: the columns of each dcmd\'s rows, as JSON'"
complete -c kmdb -s k -l kernel -d 'look at the running kernel instead of a dump; every file named is then a debug file'
complete -c kmdb -l force -d 'take the vmlinux and the modules\' files although their build-ids are not the dump\'s'
complete -c kmdb -l no-debuginfo -d 'do not look for debug files: use only what the dump holds'
complete -c kmdb -l stop -d 'stop the guest while it is looked at; it goes on when kmdb ends, however it ends'
complete -c kmdb -l ignore-vmcoreinfo -d 'do not use the VMCOREINFO note: find everything in memory'
complete -c kmdb -l triage -d 'say what happened in each of the dumps, one row each; all files are then dumps. The exit status is 1 if one of them crashed, 2 if one could not be opened'
complete -c kmdb -l quick -d 'with --triage: without looking for damage in slabs'
complete -c kmdb -s S -l no-rc -l norc -d 'do not read ~/.config/kmdb/kmdbrc and ~/.kmdbrc'
complete -c kmdb -l echo -d 'write each command before its answer and, if it is not 0, the exit status it would have alone behind it: a record of the session'
complete -c kmdb -l no-pager -d 'never use a pager'
complete -c kmdb -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kmdb -s V -l version -d 'Print version'
