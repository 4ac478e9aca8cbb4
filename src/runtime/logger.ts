import { type Logger as PinoLogger, pino, destination } from 'pino';

/** Structured logger; ids go into fields, never a key, token, payload or connection string. */
export type Logger = PinoLogger;

/** Field paths that are replaced before a line is written, whatever the caller put there. */
const REDACTED_PATHS = [
  'key',
  'token',
  'secret',
  'password',
  'authorization',
  'connection_string',
  'connectionString',
  '*.key',
  '*.token',
  '*.secret',
  '*.password',
  '*.authorization',
  '*.connection_string',
  '*.connectionString',
];

export interface LoggerOptions {
  /** `relay`, `agent`, `gateway`, `up` … */
  readonly name: string;
  /** Default `info`. */
  readonly level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /** Human-readable lines instead of JSON; default: whether stderr is a terminal. */
  readonly pretty?: boolean;
}

/** Logs to stderr, one line per thing an operator would act on. */
export const createLogger = (options: LoggerOptions): Logger => {
  const settings = {
    name: options.name,
    level: options.level ?? 'info',
    base: { name: options.name },
    redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
  };
  if (options.pretty ?? process.stderr.isTTY) {
    return pino({
      ...settings,
      transport: {
        target: 'pino-pretty',
        options: { destination: 2, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss' },
      },
    });
  }
  return pino(settings, destination({ fd: 2, sync: true }));
};

/** A logger that says nothing. */
export const silentLogger: Logger = pino({ level: 'silent' });
