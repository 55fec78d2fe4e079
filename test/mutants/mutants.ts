/** Every guard that is broken, by where it stands. */
import { ALARM_MUTANTS } from './alarm.js';
import { CONTEXT_MUTANTS } from './context.js';
import { DOCTOR_MUTANTS } from './doctor.js';
import { EXPRESS_MUTANTS } from './express.js';
import { MONGO_MUTANTS } from './mongo.js';
import type { Mutant } from './mutant.js';
import { POSTGRES_MUTANTS } from './postgres.js';
import { REDIS_MUTANTS } from './redis.js';

export const MUTANTS: readonly Mutant[] = [
  ...POSTGRES_MUTANTS,
  ...DOCTOR_MUTANTS,
  ...MONGO_MUTANTS,
  ...REDIS_MUTANTS,
  ...CONTEXT_MUTANTS,
  ...EXPRESS_MUTANTS,
  ...ALARM_MUTANTS,
];
