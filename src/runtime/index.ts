export { BACKOFF_CAP_MS, Backoff } from './backoff.ts';
export {
  CLOSE_REASON,
  type CloseReason,
  closeReasonOf,
  isCloseReason,
  MOVABLE_REASONS,
} from './close-reason.ts';
export { type Clock, sleep, systemClock, type Timer } from './clock.ts';
export { environment } from './environment.ts';
export {
  AppError,
  type AppErrorOptions,
  type ErrorCode,
  foreignCodeOf,
  isAppError,
  messageOf,
} from './errors.ts';
export { EXIT, type ExitCode, exitProcess } from './exit.ts';
export {
  makePrivateDirectory,
  PRIVATE_DIRECTORY_MODE,
  PRIVATE_FILE_MODE,
  syncDirectory,
  writeFileAtomically,
} from './files.ts';
export { createLogger, type Logger, type LoggerOptions, silentLogger } from './logger.ts';
export { randomBytes, randomFraction, uuidv7 } from './random.ts';
export { cleanText, MAX_FOREIGN_TEXT, terminalText, withoutZone } from './text.ts';
export { startWorker } from './worker.ts';
