export { BACKOFF_CAP_MS, Backoff } from './backoff.ts';
export { Buckets } from './buckets.ts';
export {
  CLOSE_REASON,
  type CloseReason,
  closeReasonOf,
  isCloseReason,
  MOVABLE_REASONS,
} from './close-reason.ts';
export { type Clock, sleep, systemClock, type Timer } from './clock.ts';
export {
  DatabaseProblem,
  databaseProblem,
  databaseProblemIn,
  withAbsoluteFiles,
} from './database-problem.ts';
export { UNREACHABLE_PEER, UNTRUSTED_CERTIFICATE } from './foreign-codes.ts';
export { type DirectoryLock, lockDirectory } from './directory-lock.ts';
export { environment } from './environment.ts';
export {
  AppError,
  type AppErrorOptions,
  type ErrorCode,
  foreignCodeOf,
  isAppError,
  messageOf,
  reasonOf,
} from './errors.ts';
export { EXIT, type ExitCode, exitProcess } from './exit.ts';
export {
  makePrivateDirectory,
  makeStateDirectory,
  PRIVATE_DIRECTORY_MODE,
  PRIVATE_FILE_MODE,
  stateDirectoryError,
  syncDirectory,
  replaceFile,
  writeFileAtomically,
} from './files.ts';
export { addressText, canonicalAddress, isMapped, parseAddress, unmapped } from './ip-address.ts';
export { isNameAddress, NAME_ADDRESSES, NAME_RANGE, nameAddress, nameSink } from './name-address.ts';
export { waitForPathLock } from './path-lock.ts';
export {
  type IpRange,
  isInRange,
  isLoopbackHost,
  LOOPBACK_RANGES,
  parseRange,
  rangeText,
} from './ip-range.ts';
export { createLogger, type Logger, type LoggerOptions, silentLogger } from './logger.ts';
export { randomBytes, randomFraction, uuidv7 } from './random.ts';
export { parseDurationMs, parseInstantMs } from './moment.ts';
export { nearestKey } from './config-schema.ts';
export { meantText, schemaProblems } from './schema-problems.ts';
export { cleanText, MAX_FOREIGN_TEXT, terminalText, withoutZone } from './text.ts';
export { MALLOC_SETTINGS, NODE_FLAGS } from './memory.ts';
export { startProcess, startWorker } from './worker.ts';
export {
  ConfigError,
  type ConfigProblem,
  formatProblem,
  MAX_CONFIG_BYTES,
  parseConfig,
  readConfig,
  type ReadConfigOptions,
  readConfigText,
} from './config.ts';
export {
  formatHostPort,
  type HostPort,
  parseHostPort,
  type RuntimeErrorCode,
} from './host-port.ts';
export { createRegistry, METRIC_PREFIX, type Registry, type RegistryOptions } from './metrics.ts';
export { runUntilSignal, type RunOptions, type StopCause } from './shutdown.ts';
export {
  listenOn,
  type Readiness,
  startStatusServer,
  type StatusServer,
  type StatusServerOptions,
} from './status-server.ts';
export { DEFAULT_WHEEL_TICK_MS, TimerWheel, type WheelEntry } from './timer-wheel.ts';
export {
  type CertificateAndKey,
  createAuthority,
  createLinkCertificate,
  createServerCertificate,
  holdsCertificate,
  type LinkCertificate,
  spkiFingerprint,
} from './tls-material.ts';
export {
  BACKDATE_MS,
  CERTIFICATE_ALGORITHM,
  importSigningKey,
  loadX509,
  newCertificateKeys,
  newSerial,
  pemText,
  privatePem,
} from './x509.ts';
export { packageVersion } from './version.ts';
export { isServiceAddress, SERVICE_ADDRESS_FORM } from './service-address.ts';
export { type Instance, openInstance } from './instance.ts';
export { resetSocket, type ResettableStream } from './reset-socket.ts';
export { BufferPool } from './buffer-pool.ts';
export { type ReadTarget, SocketReads } from './socket-reads.ts';
export { giveChunk, READ_BYTES, readBuffers, SourceReader } from './source-reader.ts';
export { editsBetween } from './config-schema.ts';
export { configJsonSchema } from './config-json-schema.ts';
