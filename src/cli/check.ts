import { resolve } from 'node:path';
import type { Command } from 'commander';
import { parseDocument } from 'yaml';
import type { ZodType } from 'zod';
import {
  configJsonSchema,
  ConfigError,
  type ConfigProblem,
  EXIT,
  formatProblem,
  messageOf,
  parseConfig,
  readConfigText,
} from '../runtime/index.ts';
import { outputOf } from './output.ts';

export type ProcessKind = 'relay' | 'agent' | 'gateway';
/** What a file may be: a process's configuration, or the managed settings over every agent of a machine. */
export type ConfigKind = ProcessKind | 'managed';

/** Files that must be there before the process is started; others are made by it. */
const READABLE_FILES: Readonly<Record<ConfigKind, readonly string[]>> = {
  relay: ['tls.cert_file', 'tls.key_file', 'control.keyring_file'],
  agent: [
    'ca_file',
    'policy.bundle_file',
    'policy.bundle_service.ca_file',
    'policy.bundle_service.token_file',
    'policy.bundle_service.client_cert_file',
    'policy.bundle_service.client_key_file',
  ],
  gateway: ['ca_file'],
  managed: [],
};

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
  const { connections, relays } = (keys.size === 0 ? {} : value) as {
    connections?: unknown;
    relays?: unknown;
  };
  const isListOfNames = Array.isArray(relays) && relays.some((relay) => typeof relay === 'string');
  if (typeof connections === 'string' || isListOfNames || MANAGED_KEYS.some((key) => keys.has(key))) {
    return 'managed';
  }
  if (['control', 'node', 'admin', 'public', 'tls'].some((key) => keys.has(key))) return 'relay';
  if (['policy', 'audit', 'allow_loopback', 'time_zone'].some((key) => keys.has(key))) return 'agent';
  return 'gateway';
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

/** Every problem of a configuration file, none when it is right. @throws AppError ERR_CONFIG_UNREADABLE */
export const checkConfig = async (
  file: string,
  wanted?: ConfigKind,
): Promise<{ kind: ConfigKind; problems: readonly ConfigProblem[] }> => {
  const text = await readConfigText(file);
  const kind = wanted ?? kindOf(text);
  try {
    parseConfig(text, resolve(file), await schemaOf(kind), {
      readableFiles: READABLE_FILES[kind],
      isSelfContained: kind === 'managed',
    });
    return { kind, problems: kind === 'managed' ? await untrusted(resolve(file)) : [] };
  } catch (error) {
    if (error instanceof ConfigError) return { kind, problems: error.problems };
    throw error;
  }
};

const KINDS: readonly ConfigKind[] = ['relay', 'agent', 'gateway', 'managed'];

/** JSON Schema of `KIND.yaml`, as text. */
export const schemaText = async (kind: ConfigKind): Promise<string> =>
  JSON.stringify(
    configJsonSchema(await schemaOf(kind), `Sallyport ${kind}.yaml`, kind === 'managed'),
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

export const checkCommand = (program: Command): void => {
  program
    .command('check')
    .summary('validate a configuration file, every problem at once')
    .description(
      'Validates relay.yaml, agent.yaml or gateway.yaml with its environment overrides, or managed.yaml, and shows every problem ' +
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
      const { kind, problems } = await checkConfig(options.config, kindFrom(options.kind, '--kind', command));
      const ok = problems.length === 0;
      output.document({ ok, kind, problems });
      for (const problem of problems) output.line(formatProblem(problem));
      output.line(
        ok
          ? `${options.config}: a valid ${kind} configuration`
          : `${problems.length} problem${problems.length === 1 ? '' : 's'} in ${options.config} (read as a ${kind} configuration)`,
      );
      if (!ok) output.exitWith(EXIT.usage);
    });
};
