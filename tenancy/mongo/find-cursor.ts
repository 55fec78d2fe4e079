/** A cursor of `find`, which may be refined until it is first read from. */
import type { Document } from 'mongodb';
import type { FindOptions } from './call-types.js';
import type { Guard } from './guard.js';
import { OPTIONS } from './options.js';
import { refused } from './refused.js';
import { type CursorPlan, ScopedCursor } from './scoped-cursor.js';
import type { StatementRunner } from './statement-runner.js';

export class FindCursor<T> extends ScopedCursor<T> {
  readonly #guard: Guard;
  readonly #options: Document;

  constructor(
    guard: Guard,
    runner: StatementRunner,
    options: Document,
    plan: (options: Document) => CursorPlan,
  ) {
    super(runner, () => plan(options));
    this.#guard = guard;
    this.#options = options;
  }

  limit(limit: number): this {
    return this.#refine({ limit });
  }

  skip(skip: number): this {
    return this.#refine({ skip });
  }

  batchSize(batchSize: number): this {
    return this.#refine({ batchSize });
  }

  sort(sort: Document): this {
    return this.#refine({ sort });
  }

  project(projection: Document): this {
    return this.#refine({ projection });
  }

  #refine(options: FindOptions): this {
    if (this.started) throw refused('a cursor that has been read from is not changed');
    Object.assign(this.#options, this.#guard.options(options, OPTIONS.find));
    return this;
  }
}
Object.freeze(FindCursor.prototype);
