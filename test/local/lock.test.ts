// A lock whose holder was killed, and beside it what is left of one that was killed as it took such a lock over.

import path from 'node:path';
import { environment, otherProcess, places } from './support.js';

const place = places();

it('is taken by one after another where many meet what the dead have left', async () => {
  const here = place();
  const env = environment(here, { LOCK: path.join(here.folder, 'a.lock') });
  const code = `
    const { linkSync, mkdirSync, utimesSync, writeFileSync } = require('node:fs');
    const { isLock, tryLock } = require('./local/lock.js');
    const { identityOf } = require('./local/identity.js');
    const dead = JSON.stringify({ ...identityOf(process.pid), pid: 2 ** 22 });
    const draft = process.env.LOCK + '.dead.' + process.pid;
    writeFileSync(draft, dead);
    const leave = (work) => {
      try { work(); } catch (error) {
        // Another was quicker: with leaving it there, or with taking it over.
        if (!['EEXIST', 'ENOENT'].includes(error.code)) throw error;
      }
    };
    let taken = 0;
    for (let round = 0; round < 300; round++) {
      leave(() => linkSync(draft, process.env.LOCK));
      leave(() => mkdirSync(process.env.LOCK + '.takeover'));
      leave(() => utimesSync(process.env.LOCK + '.takeover', 0, 0));
      const lock = tryLock(process.env.LOCK);
      if (isLock(lock)) {
        taken++;
        lock.release();
      }
    }
    ready(taken);`;
  // The first writes the compiled code, which the others read.
  const first = await otherProcess(here, code, env);
  const others = await Promise.all(Array.from({ length: 3 }, () => otherProcess(here, code, env)));
  expect(Number(first.said)).toBe(300);
  for (const { said } of others) expect(Number(said)).toBeGreaterThan(0);
});
