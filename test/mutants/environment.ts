/**
 * Jest's environment for a run with a mutant: writes down how each test ended, and skips the rest as soon as one has
 * noticed. Not by Jest's own bail, which leaves without having written its results.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type { Circus } from '@jest/types';
import TestEnvironment from '../support/jest/environment.js';
import { chosenMutant, type Note, VARIABLES } from './mutant.js';

export default class MutantEnvironment extends TestEnvironment {
  #noticed = chosenMutant() !== undefined && wasNoticed();

  handleTestEvent(event: Circus.Event): void {
    switch (event.name) {
      case 'test_start':
        if (this.#noticed) event.test.mode = 'skip';
        return;
      case 'test_fn_success':
        return note({ kind: 'passed', test: fullName(event.test) });
      case 'test_fn_failure': {
        const isAssertion = isAssertionError(event.error);
        this.#noticed ||= isAssertion && chosenMutant() !== undefined;
        return note({
          kind: 'failed',
          test: fullName(event.test),
          message: firstLines(event.error),
          isAssertion,
        });
      }
      case 'hook_failure':
        return note({ kind: 'hook failed', message: firstLines(event.error) });
      default:
    }
  }
}

/** In a file before this one. */
function wasNoticed(): boolean {
  const file = process.env[VARIABLES.notes];
  return file !== undefined && existsSync(file) && readFileSync(file, 'utf8').includes('"isAssertion":true');
}

function note(what: Note): void {
  const file = process.env[VARIABLES.notes];
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(what)}\n`);
}

function fullName(test: Circus.TestEntry): string {
  const names = [test.name];
  for (let block: Circus.DescribeBlock | undefined = test.parent; block?.parent; block = block.parent)
    names.unshift(block.name);
  return names.join(' ');
}

/** Of `expect` or `until`, itself or as the cause: a property that fails says so by an error of its own. */
function isAssertionError(error: unknown): boolean {
  if (!(typeof error === 'object' && error !== null)) return false;
  if ('matcherResult' in error) return true;
  if ('message' in error && /^after \d+ ms it is still not so that /.test(String(error.message))) return true;
  return 'cause' in error && isAssertionError(error.cause);
}

function firstLines(error: unknown): string {
  const text =
    typeof error === 'object' && error !== null && 'message' in error
      ? String(error.message)
      : typeof error === 'string'
        ? error
        : 'no error';
  const lines = text
    // oxlint-disable-next-line no-control-regex
    .replaceAll(/\u001b\[\d*m/g, '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
  return lines.slice(0, 4).join(' | ').slice(0, 200);
}
