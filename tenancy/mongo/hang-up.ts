/**
 * Ends a connection so that the server is known to have ended it too. A socket that is only destroyed is gone for this process
 * at once, and for the server a moment later: a connection that takes its place meanwhile is one more than was allowed.
 */
import type { Connection } from './driver-inside.js';

/**
 * Never fails. From the call on, the driver hands the connection out no more. Nothing may be under way on it.
 * @param longestMs a server that does not hang up in return must not keep a place for ever
 */
export function hangUp(connection: Connection, longestMs: number): Promise<void> {
  const { socket } = connection;
  return new Promise((resolve) => {
    const gone = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve();
    };
    const timer = setTimeout(gone, longestMs);
    const hadGone = socket.destroyed;
    socket.once('end', gone).once('close', gone);
    // The driver gives up its connection, but not the socket, which has yet to hear of the server's end.
    socket.destroy = () => socket;
    connection.destroy();
    Reflect.deleteProperty(socket, 'destroy');
    if (hadGone) gone();
    else socket.end();
  });
}
