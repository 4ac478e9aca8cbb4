import { resolve } from 'node:path';
import type { Command } from 'commander';
import { parseDocument } from 'yaml';
import type { ZodType } from 'zod';
import type { AgentConfig } from '../agent/index.ts';
import {
  configJsonSchema,
  ConfigError,
  type ConfigProblem,
  EXIT,
  formatProblem,
  messageOf,
  parseConfig,
  readConfig,
  readConfigText,
  systemClock,
} from '../runtime/index.ts';
import { nameRows, showNames } from './hosts.ts';
import { counted, type Output, outputOf } from './output.ts';

export type ProcessKind = 'relay' | 'agent' | 'gateway';
/** What a file may be: a process's configuration, or the managed settings over every agent of a machine. */
export type ConfigKind = ProcessKind | 'managed';

/** Files that must be there before the process is started; others are made by it. */
const READABLE_FILES: Readonly<Record<ConfigKind, readonly string[]>> = {
  relay: ['tls.cert_file', 'tls.key_file', 'control.keyring_file'],
  agent: [
    'ca_file',
    'proxy.credentials_file',
    'proxy.ca_file',
    'policy.bundle_file',
    'policy.data_file',
    'policy.bundle_service.ca_file',
    'policy.bundle_service.token_file',
    'policy.bundle_service.client_cert_file',
    'policy.bundle_service.client_key_file',
    'policy.status_service.ca_file',
    'policy.status_service.token_file',
    'policy.status_service.client_cert_file',
    'policy.status_service.client_key_file',
  ],
  gateway: ['ca_file', 'proxy.credentials_file', 'proxy.ca_file'],
  managed: [],
};

/** Their URLs may name files too (`sslrootcert`). */
const DATABASE_URLS = ['control.database_url', 'control.listen_url', 'audit.database_url'];

const schemaOf = async (kind: ConfigKind): Promise<ZodType> => {
  switch (kind) {
    case 'relay':
      return (await import('../relay/index.ts')).relayConfigSchema;
    case 'agent':
      return (await import('../agent/index.ts')).agentConfigSchema;
    case 'gateway':
      return (await import('../gateway/index.ts')).gatewayConfigSchema;
    case 'managed':
      return (await import('../policy/index.ts')).managedConfigSchema;
  }
};

/** `an agent configuration` */
export const configName = (kind: ConfigKind): string =>
  `${kind === 'agent' ? 'an' : 'a'} ${kind} configuration`;

const MANAGED_KEYS = [
  'designated',
  'require_proof',
  'minimum_sequence',
  'signing_keys',
  'audit_mode',
  'bundle',
];

/** Which process a configuration is for, from the keys that only one of them has. */
export const kindOf = (text: string): ConfigKind => {
  const value: unknown = parseDocument(text).toJS({ maxAliasCount: 100 });
  const keys = new Set(typeof value === 'object' && value !== null ? Object.keys(value) : []);
  // agent.yaml and gateway.yaml have lists and mappings of connections, and relays with ports.
  const { connections, relays, tls } = (keys.size === 0 ? {} : value) as {
    connections?: unknown;
    relays?: unknown;
    tls?: unknown;
  };
  const isListOfNames = Array.isArray(relays) && relays.some((relay) => typeof relay === 'string');
  if (typeof connections === 'string' || isListOfNames || MANAGED_KEYS.some((key) => keys.has(key))) {
    return 'managed';
  }
  if (['control', 'node', 'admin', 'public'].some((key) => keys.has(key))) return 'relay';
  // Of a relay: its certificate. agent.yaml and gateway.yaml say with it how that is judged.
  if (typeof tls === 'object' && tls !== null && 'cert_file' in tls) return 'relay';
  if (['policy', 'audit', 'allow_loopback', 'time_zone'].some((key) => keys.has(key))) return 'agent';
  return 'gateway';
};

/** Whether some key of a file is one of the process that it was taken for. */
const isTold = async (file: string): Promise<boolean> => {
  const text = await readConfigText(file);
  const value: unknown = parseDocument(text).toJS({ maxAliasCount: 100 });
  if (typeof value !== 'object' || value === null) return false;
  const { properties = {} } = (await configJsonSchema(await schemaOf(kindOf(text)), '', true)) as {
    properties?: object;
  };
  return Object.keys(value).some((key) => key in properties);
};

/** Why agents would not take managed settings that are in their place; a draft elsewhere may be anybody's. */
const untrusted = async (file: string): Promise<ConfigProblem[]> => {
  const { MANAGED_LOCATION, readManagedFile } = await import('../policy/index.ts');
  if (file !== MANAGED_LOCATION.path) return [];
  try {
    await readManagedFile(MANAGED_LOCATION);
    return [];
  } catch (error) {
    return [{ file, line: 1, column: 1, message: messageOf(error) }];
  }
};

/** Why an agent would not take its grants file: with it, a start would deny everything. */
const grantsProblems = async (config: unknown): Promise<ConfigProblem[]> => {
  const { data_file: file } = (config as AgentConfig).policy;
  if (file === undefined) return [];
  const { readGrantsFile } = await import('../policy/index.ts');
  try {
    await readGrantsFile(file);
    return [];
  } catch (error) {
    return [{ file, line: 1, column: 1, message: `the grants would not be taken: ${messageOf(error)}` }];
  }
};

/** Every problem of a configuration file, none when it is right. @throws AppError ERR_CONFIG_UNREADABLE */
export const checkConfig = async (
  file: string,
  wanted?: ConfigKind,
): Promise<{ kind: ConfigKind; problems: readonly ConfigProblem[]; warnings: readonly ConfigProblem[] }> => {
  const warnings: ConfigProblem[] = [];
  const text = await readConfigText(file);
  const kind = wanted ?? kindOf(text);
  try {
    const config: unknown = parseConfig(text, resolve(file), await schemaOf(kind), {
      readableFiles: READABLE_FILES[kind],
      databaseUrls: DATABASE_URLS,
      onWarning: (warning) => warnings.push(warning),
      isSelfContained: kind === 'managed',
    });
    const problems =
      kind === 'managed'
        ? await untrusted(resolve(file))
        : kind === 'agent'
          ? await grantsProblems(config)
          : [];
    return { kind, problems, warnings };
  } catch (error) {
    if (error instanceof ConfigError) return { kind, problems: error.problems, warnings };
    throw error;
  }
};

const KINDS: readonly ConfigKind[] = ['relay', 'agent', 'gateway', 'managed'];

/** JSON Schema of `KIND.yaml`, as text. */
export const schemaText = async (kind: ConfigKind): Promise<string> =>
  JSON.stringify(
    await configJsonSchema(await schemaOf(kind), `Sallyport ${kind}.yaml`, kind === 'managed'),
    undefined,
    2,
  );

const kindFrom = (text: string | undefined, option: string, command: Command): ConfigKind | undefined => {
  const kind = KINDS.find((known) => known === text);
  if (text !== undefined && kind === undefined) {
    command.error(`error: ${option} is relay, agent, gateway or managed, not ${JSON.stringify(text)}`);
  }
  return kind;
};

/** The transparent names of a gateway.yaml that is right, with the addresses that they have or will get. */
const namesOf = async (file: string, output: Output): Promise<ReturnType<typeof nameRows>> => {
  const { gatewayConfigSchema, previewNames, readHostsFile, systemHostsFile } = await import(
    '../gateway/index.ts'
  );
  try {
    const config = await readConfig(file, gatewayConfigSchema);
    return nameRows(previewNames(config, readHostsFile(systemHostsFile()), systemClock));
  } catch (error) {
    output.note(`the addresses of its names are not known here: ${messageOf(error)}`);
    return [];
  }
};

export const checkCommand = (program: Command): void => {
  program
    .command('check')
    .summary('validate a configuration file, every problem at once')
    .description(
      'Validates relay.yaml, agent.yaml or gateway.yaml with its environment overrides and the grants file that agent.yaml names, or managed.yaml, and shows every problem ' +
        'as file:line:col. Connects to nothing.',
    )
    .option('-c, --config <file>', 'the configuration')
    .option('--kind <process>', 'relay, agent, gateway or managed; default: told by its keys')
    .option('--schema <process>', 'print the JSON Schema of its file, for editors, instead')
    .action(async (options: { config?: string; kind?: string; schema?: string }, command: Command) => {
      const output = outputOf(command);
      const wanted = kindFrom(options.schema, '--schema', command);
      if (wanted !== undefined) {
        const text = await schemaText(wanted);
        output.document(JSON.parse(text));
        output.line(text);
        return;
      }
      if (options.config === undefined)
        command.error("error: required option '-c, --config <file>' not specified");
      const { kind, problems, warnings } = await checkConfig(
        options.config,
        kindFrom(options.kind, '--kind', command),
      );
      const ok = problems.length === 0;
      const names = ok && kind === 'gateway' ? await namesOf(options.config, output) : [];
      output.document({ ok, kind, problems, warnings, ...(names.length > 0 ? { names } : {}) });
      for (const warning of warnings) output.note(`warning: ${formatProblem(warning)}`);
      for (const problem of problems) output.line(formatProblem(problem));
      output.line(
        ok
          ? `${options.config}: ${configName(kind).replace(/ /, ' valid ').replace(/^an /, 'a ')}`
          : `${counted(problems.length, 'problem')} in ${options.config} (read as ${configName(kind)})`,
      );
      showNames(output, names);
      if (!ok && options.kind === undefined && !(await isTold(options.config))) {
        output.note(
          'none of its keys tells whose configuration it is: --kind says so; a policy directory is for `policy check`',
        );
      }
      if (!ok) output.exitWith(EXIT.usage);
    });
};
