/** Mutants of what the doctor of a cell's PostgreSQL looks at. */
import type { Mutant } from './mutant.js';

const DOCTOR = ['test/data-plane/postgres/doctor.test.ts'];
const FUNCTIONS = 'tenancy/postgres/doctor/functions.ts';
const CODE = 'tenancy/postgres/doctor/code.ts';

export const DOCTOR_MUTANTS: readonly Mutant[] = [
  {
    name: 'doctor: what an operator or a cast calls is not looked at',
    file: FUNCTIONS,
    find: "'pg_operator'::regclass, 'pg_cast'::regclass, ",
    replace: '',
    tests: DOCTOR,
    named: 'an operator|a cast',
  },
  {
    name: 'doctor: what is called without a right is taken for out of reach',
    file: FUNCTIONS,
    find: 'WHERE p.callable OR p.unasked OR',
    replace: 'WHERE p.callable OR',
    tests: DOCTOR,
    named: 'a range|a class of operators',
  },
  {
    name: 'doctor: an aggregate may call what the product may not',
    file: FUNCTIONS,
    find: '...(await ofAggregates(examination)),',
    replace: '',
    tests: DOCTOR,
    named: 'an aggregate',
  },
  {
    name: 'doctor: a function may forget the tenant',
    file: 'tenancy/postgres/doctor/body.ts',
    find: 'if (NAMED.test(code) || FORGETTING.test(code)) return true;',
    replace: 'if (NAMED.test(code)) return true;',
    tests: DOCTOR,
    named: 'forgets the tenant',
  },
  {
    name: 'doctor: a policy may use a cast that reads like PostgreSQL’s own',
    file: 'tenancy/postgres/doctor/policies.ts',
    find: '!found.foreign &&',
    replace: '',
    tests: DOCTOR,
    named: 'a cast that reads the same',
  },
  {
    name: 'doctor: a policy that restricts may be asked before ours',
    file: 'tenancy/postgres/doctor/policies.ts',
    find: 'f.procost <= 1',
    replace: 'f.procost < 0',
    tests: DOCTOR,
    named: 'called before ours',
  },
  {
    name: 'doctor: a view of PostgreSQL’s own may have been replaced',
    file: 'tenancy/postgres/doctor/views.ts',
    find: ' OR ${REPLACED})',
    replace: ')',
    tests: DOCTOR,
    named: 'a view of the information schema',
  },
  {
    name: 'doctor: a function may execute what it is given',
    file: 'tenancy/postgres/doctor/body.ts',
    find: '|| parameters.includes(name)',
    replace: '',
    tests: DOCTOR,
    named: 'executes what it is given',
  },
  {
    name: 'doctor: event triggers are not looked at',
    file: CODE,
    find: '...(await eventTriggers(examination)),',
    replace: '',
    tests: DOCTOR,
    named: 'an event trigger',
  },
  {
    name: 'doctor: which functions the session before has called is told to everybody',
    file: 'catalogue/bootstrap.ts',
    find: "...['calls', 'total_time', 'self_time'].map(",
    replace: "...['total_time', 'self_time'].map(",
    tests: DOCTOR,
    named: 'which functions the session before',
  },
];
