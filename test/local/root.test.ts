// As root, PostgreSQL runs as another user, who has to get at data beneath a folder that is closed to all but root.

import { chmodSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { Client } from 'pg';
import { startPostgres } from '../../local/postgres.js';
import { silentReport as report } from '../../local/report.js';
import { environment, pathWith, places, plainTools } from './support.js';

jest.setTimeout(60_000);
const place = places();
const ifLinuxRoot = process.getuid?.() === 0 && process.platform === 'linux' ? it : it.skip;

ifLinuxRoot('runs beneath a parent of mode 700 that belongs to root', async () => {
  const here = place();
  const closed = path.join(here.folder, 'closed');
  mkdirSync(closed, { mode: 0o700 });
  // The embedded one, which also lies wherever the clone does.
  const env = environment(here, { PATH: pathWith(here, plainTools) });
  const server = await startPostgres({ dataDir: path.join(closed, 'data'), report, env });
  here.after(() => server.stop());
  expect(statSync(closed).mode & 0o777).toBe(0o700);
  expect(statusOf(server.pid, 'Uid')).not.toMatch(/\b0\b/);
  // CAP_DAC_OVERRIDE and nothing else.
  expect(statusOf(server.pid, 'CapEff')).toBe('0000000000000002');
  await server.kill();
  await server.start();
  expect(await answers(server.url)).toBe(true);
});

ifLinuxRoot('needs no right to pass closed folders where there are none', async () => {
  const here = place();
  chmodSync(here.folder, 0o755);
  const env = environment(here, { PATH: pathWith(here, [...plainTools, 'postgres']) });
  // The clone itself may be in a closed place; then its binaries are, and this is the other test.
  if (!existsSync(path.join(env['PATH'] ?? '', 'postgres'))) return;
  for (const name of ['PATH', 'TENANTRY_CACHE_DIR'])
    if (existsSync(env[name] ?? '')) chmodSync(env[name] ?? '', 0o755);
  const server = await startPostgres({ dataDir: path.join(here.folder, 'data'), report, env });
  here.after(() => server.stop());
  expect(statusOf(server.pid, 'Uid')).not.toMatch(/\b0\b/);
  expect(statusOf(server.pid, 'CapEff')).toBe('0000000000000000');
});

ifLinuxRoot('says which folder to open where the right to pass cannot be given', async () => {
  const here = place();
  const env = environment(here, {
    PATH: pathWith(
      here,
      plainTools.filter((tool) => tool !== 'setpriv'),
    ),
  });
  const start = startPostgres({ dataDir: here.folder, report, env });
  await expect(start).rejects.toThrow(/must not run as root/);
  await expect(start).rejects.toThrow(`To mend it: chmod o+x ${here.folder}`);
});

function statusOf(pid: number | undefined, field: string): string {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return new RegExp(`^${field}:\\s*(.+)$`, 'm').exec(status)?.[1] ?? '';
}

async function answers(url: string): Promise<boolean> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query('select 1');
  await client.end();
  return true;
}
