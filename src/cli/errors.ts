import {
  databaseProblemIn,
  EXIT,
  type ExitCode,
  foreignCodeOf,
  isAppError,
  UNREACHABLE_PEER,
} from '../runtime/index.ts';

/** Codes of the command line itself. */
export type CliErrorCode =
  | 'ERR_CLI_USAGE'
  | 'ERR_CLI_STATE'
  | 'ERR_CLI_STATE_LOCKED'
  | 'ERR_CLI_NO_UP'
  | 'ERR_CLI_POSTGRES'
  | 'ERR_CLI_CHILD'
  | 'ERR_CLI_FILE_EXISTS'
  | 'ERR_CLI_DATABASE_USED'
  | 'ERR_CLI_AGENT_UNREACHABLE'
  | 'ERR_CLI_GATEWAY_UNREACHABLE'
  | 'ERR_CLI_UNIT'
  | 'ERR_CLI_POLICY_GONE';

const EXIT_OF_CODE: Readonly<Record<string, ExitCode>> = {
  ERR_CLI_USAGE: EXIT.usage,
  ERR_CLI_STATE: EXIT.usage,
  ERR_CLI_STATE_LOCKED: EXIT.usage,
  ERR_CLI_FILE_EXISTS: EXIT.usage,
  ERR_AGENT_STATE: EXIT.usage,
  ERR_GATEWAY_STATE: EXIT.usage,
  ERR_RELAY_STATE: EXIT.usage,
  ERR_CLI_DATABASE_USED: EXIT.usage,
  ERR_CLI_UNIT: EXIT.usage,
  ERR_CLI_NO_UP: EXIT.unreachable,
  ERR_CLI_POSTGRES: EXIT.unreachable,
  ERR_CLI_CHILD: EXIT.unreachable,
  ERR_AUDIT_EXPORT_INVALID: EXIT.notSo,
  ERR_AUDIT_EXPORT_WRITE: EXIT.usage,
  ERR_AUDIT_QUERY_UNKNOWN: EXIT.usage,
  ERR_AUDIT_QUERY_FAILED: EXIT.usage,
  ERR_POLICY_ADDRESS: EXIT.usage,
  ERR_POLICY_INPUT: EXIT.usage,
  ERR_POLICY_SOURCE: EXIT.usage,
  ERR_POLICY_BUILD: EXIT.usage,
  ERR_POLICY_UNSIGNED: EXIT.usage,
  ERR_HOSTS_BUSY: EXIT.unreachable,
  ERR_HOSTS_CONFLICT: EXIT.usage,
  ERR_HOSTS_DAMAGED: EXIT.usage,
  ERR_HOSTS_FILE: EXIT.usage,
  ERR_LISTEN_REFUSED: EXIT.unreachable,
};

const USAGE_CODE = /^ERR_CONFIG_|_(USAGE|INVALID|MALFORMED|CONFIG|SYNTAX)$/;
const UNREACHABLE_CODE = /_(UNREACHABLE|UNAVAILABLE|MISSING|OFFLINE|TIMEOUT)$/;
/** What the system says when something is out of reach, a port that another process has included. */
const UNREACHABLE_SYSTEM = new Set([...UNREACHABLE_PEER, 'EADDRINUSE']);

/** The exit code of interfaces.md for whatever ended a command. */
export const exitCodeOf = (thrown: unknown): ExitCode => {
  const database = databaseProblemIn(thrown);
  if (database !== undefined) return database.kind === 'configuration' ? EXIT.usage : EXIT.unreachable;
  if (isAppError(thrown)) {
    const exact = EXIT_OF_CODE[thrown.code];
    if (exact !== undefined) return exact;
    if (USAGE_CODE.test(thrown.code)) return EXIT.usage;
    if (UNREACHABLE_CODE.test(thrown.code) || thrown.retryable) return EXIT.unreachable;
    return EXIT.notSo;
  }
  return UNREACHABLE_SYSTEM.has(foreignCodeOf(thrown) ?? '') ? EXIT.unreachable : EXIT.notSo;
};
