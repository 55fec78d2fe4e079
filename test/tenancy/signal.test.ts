/** Signals as callers hand them over: the platform's own, whatever they carry. */
import { isAborted, isSignal, reasonOf, throwIfAborted, whenAborted } from '../../tenancy/signal.js';
import { trappedSignal } from '../support/trapped-signal.js';

test('one whose own methods throw is heard all the same, once, and none of them is called', () => {
  const { signal, abort } = trappedSignal();
  const heard: unknown[] = [];
  whenAborted(signal, (reason) => heard.push(reason));
  const stop = whenAborted(signal, () => heard.push('who cares no more'));
  expect([isSignal(signal), isAborted(signal)]).toEqual([true, false]);
  throwIfAborted(signal);
  stop();
  const enough = new Error('enough');
  abort(enough);
  abort(new Error('again'));
  expect(heard).toEqual([enough]);
  expect([isAborted(signal), reasonOf(signal)]).toEqual([true, enough]);
  expect(() => throwIfAborted(signal)).toThrow(enough);
});

test('one that is over is heard at once, and what is none never', () => {
  const heard: unknown[] = [];
  whenAborted(AbortSignal.abort('over'), (reason) => heard.push(reason))();
  whenAborted(undefined, (reason) => heard.push(reason))();
  expect(heard).toEqual(['over']);
  expect([isAborted(undefined), isSignal(undefined), isSignal(Object.create(AbortSignal.prototype))]).toEqual(
    [false, false, false],
  );
});
