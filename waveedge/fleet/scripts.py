"""What a board's shell runs for a job: start it, say how far it is, clear up.

Each is a template of ``str.format``; ``folder`` is the bundle's there, ``job`` the job's inside.
"""

from __future__ import annotations

__all__ = ["BUILD", "LONGEST", "REMOVE", "RESULTS", "RUN", "START", "STATE"]

LONGEST = 6 * 3600
"""Seconds after which a board ends a part of a job by itself: no orphan runs for ever."""

RESULTS = ("out", "log", "doctor", "engines")

START = """\
set -e
cd {folder}
mkdir {job} 2>/dev/null || exit 0
cat > {job}/run.sh
if command -v setsid >/dev/null; then detached=setsid; else detached=nohup; fi
$detached sh {job}/run.sh >/dev/null 2>&1 </dev/null &
tries=50  # ten seconds: a busy board takes its time
while [ $tries -gt 0 ]; do
  [ -f {job}/pid ] && exit 0
  sleep 0.2
  tries=$((tries - 1))
done
echo "its shell did not start" >&2
exit 1
"""

RUN = """\
cd {folder}/{job} || exit 1
: > out; : > log; : > doctor; : > engines
echo $$ > pid
# What libraries leave behind goes with the job; what pip put into the real home is still found.
export PYTHONUSERBASE="${{PYTHONUSERBASE-$HOME/.local}}" XDG_CACHE_HOME="$PWD/home" HOME="$PWD/home"
ended() {{
  echo "$1" > status.part && mv status.part status  # on a full disk there is no status
  exit
}}
timeout -k 10 600 {python} -m waveedge doctor --json > doctor 2> /dev/null
{build}timeout -k 10 {longest} {python} -m waveedge bench ../bundle --json {arguments} > out 2> log
ended $?
"""

BUILD = """\
timeout -k 10 {longest} {python} -m waveedge build ../bundle --race --json > engines 2> log ||
  ended $?
"""
"""For a bundle that runs as engines: those that lie there and fit are kept."""

STATE = """\
cd {folder}/{job} 2>/dev/null || {{ echo none; exit 0; }}
if [ -n "$(find status -mmin +1440 2>/dev/null)" ]; then echo gone
elif [ -s status ]; then echo "ended $(cat status)"
# The number alone would do for a process that got it after the board restarted.
elif grep -qs {job}/run.sh "/proc/$(cat pid)/cmdline"; then echo running
elif [ -s status ]; then echo "ended $(cat status)"  # between the two looks
else echo gone; fi
df -Pk . | awk 'NR == 2 {{ print $4 }}'
"""
"""Prints the state and, where there is a job, how many KiB its user may still write."""

REMOVE = """\
rm -rf {folder}/{job}
[ {keep} = 1 ] || ls -d {folder}/job-* >/dev/null 2>&1 || rm -rf {folder}
rmdir "$HOME"/.cache/waveedge "$HOME"/.cache 2>/dev/null || true
"""
