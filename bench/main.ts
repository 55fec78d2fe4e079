// `npm run bench -- NAME [--json FILE]`: runs one benchmark and prints its figures.

import { readdirSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Benchmark, machine, table, writeJson } from './harness.js';

async function main(): Promise<number> {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { json: { type: 'string' } },
  });
  const known = readdirSync(path.join(__dirname, 'suites'))
    .filter((file) => file.endsWith('.js'))
    .map((file) => file.slice(0, -'.js'.length));
  const [name] = positionals;
  if (name === undefined || !known.includes(name)) {
    process.stderr.write(`Usage: npm run bench -- ${known.join(' | ')} [--json FILE]\n`);
    return 2;
  }
  const { default: benchmark } = (await import(path.join(__dirname, 'suites', `${name}.js`))) as {
    default: Benchmark | { default: Benchmark };
  };
  const suite = 'default' in benchmark ? benchmark.default : benchmark;
  const { figures, environment } = await suite.run((line) => process.stdout.write(`${line}\n`));
  process.stdout.write(`\n${table(figures)}\n`);
  if (values.json !== undefined) writeJson(values.json, name, figures, { ...machine(), ...environment });
  return 0;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
