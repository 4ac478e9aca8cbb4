/** Exit codes of every command; interfaces.md fixes them. */
export const EXIT = {
  /** Done. */
  ok: 0,
  /** The thing asked about is not so: denied, verification failed, unhealthy, revocation pending. */
  notSo: 1,
  /** Bad usage or configuration. */
  usage: 2,
  /** A needed service or tool is out of reach. */
  unreachable: 3,
  /** Nothing was found wrong, but not everything was looked at. */
  partial: 4,
  /** Whoever read the output went away first, as after SIGPIPE: nobody learned the result. */
  pipeClosed: 141,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends the process; only composition roots call it. */
export const exitProcess = (code: ExitCode): never => process.exit(code);
