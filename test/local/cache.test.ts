// What is built once is built once: by two at a time, and after one that was killed in the middle.

import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { cached } from '../../local/cache.js';
import { endTree } from '../../local/ending.js';
import { identityOf } from '../../local/identity.js';
import { silentReport as report } from '../../local/report.js';
import { environment, listening, otherProcess, type Place, places } from './support.js';

const place = places();
const entryIn = (here: Place) => ({
  name: 'thing',
  version: '1.0',
  file: 'bin',
  env: environment(here),
  report,
});

it('builds once for two that ask at once', async () => {
  const here = place();
  let builds = 0;
  const make = async (folder: string) => {
    builds++;
    await new Promise((resolve) => setTimeout(resolve, 200));
    writeFileSync(path.join(folder, 'bin'), 'built');
  };
  const waiting = listening();
  const [one, two] = await Promise.all([
    cached({ ...entryIn(here), make }),
    cached({ ...entryIn(here), report: waiting, make }),
  ]);
  expect(one).toBe(two);
  expect(builds).toBe(1);
  expect(waiting.lines[0]).toContain(`waiting for process ${process.pid}`);
});

it('takes over from a builder that was killed in the middle, and clears what that one left', async () => {
  const here = place();
  const entry = entryIn(here);
  const { child } = await otherProcess(
    here,
    `const { cached } = require('./local/cache.js');
     const { silentReport: report } = require('./local/report.js');
     const { writeFileSync } = require('node:fs');
     void cached({ name: 'thing', version: '1.0', file: 'bin', env: process.env, report, make: async (folder) => {
       writeFileSync(folder + '/bin', 'half');
       ready(folder);
       await new Promise((resolve) => setTimeout(resolve, 60_000));
     }});`,
    entry.env,
  );
  const builder = identityOf(child.pid ?? 0);
  if (!builder) throw new Error('the builder is gone too early');
  await endTree(builder, 'SIGKILL', 5_000);

  const file = await cached({
    ...entry,
    make: async (folder) => writeFileSync(path.join(folder, 'bin'), 'whole'),
  });
  expect(existsSync(file)).toBe(true);
  const left = readdirSync(path.dirname(path.dirname(file)));
  expect(left).toEqual([path.basename(path.dirname(file))]);
});

it('keeps nothing of a build that failed, and tries again', async () => {
  const here = place();
  const failing = cached({ ...entryIn(here), make: () => Promise.reject(new Error('no compiler')) });
  await expect(failing).rejects.toThrow('no compiler');
  const file = await cached({
    ...entryIn(here),
    make: async (folder) => writeFileSync(path.join(folder, 'bin'), ''),
  });
  expect(existsSync(file)).toBe(true);
});
