// Outlives the process that starts servers by just as long as it takes to stop them. Plain JavaScript, because it
// also runs where nothing is compiled: under Jest. Its input is a pipe from that process, which ends with it
// however it ends, so a SIGKILL leaves no server behind.
//
// A line on stdin is { pid, started, signal } for a server that runs, or { pid } for one that was stopped.

import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const servers = new Map();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);
for await (const line of createInterface({ input: process.stdin })) {
  const server = JSON.parse(line);
  if (server.signal) servers.set(server.pid, server);
  else servers.delete(server.pid);
}
await Promise.all([...servers.values()].map(end));

async function end(server) {
  if (!isThere(server)) return;
  send(server, 'SIGCONT');
  send(server, server.signal);
  for (const until = Date.now() + 10_000; isThere(server) && Date.now() < until; ) await delay(20);
  if (isThere(server)) send(server, 'SIGKILL');
}

/** Compared as in identity.ts where that is cheap; elsewhere the pid was ours a moment ago. */
function isThere({ pid, started }) {
  try {
    process.kill(pid, 0);
    if (process.platform !== 'linux') return true;
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] !== 'Z' && started.endsWith(`/${fields[19]}`);
  } catch {
    return false; // gone, or going while it was looked at
  }
}

function send({ pid }, signal) {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
