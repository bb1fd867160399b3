// Prints the golden vectors of `placement.txt`: key in hex, murmur2, partition of 12 and of 7, as the
// Java client computes them. Run with the broker's jars on the class path:
//
//     java -cp '<cache>/kafka-4.3.1/*' crates/core/tests/golden/Placement.java \
//         > crates/core/tests/golden/placement.txt

import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.Random;
import java.util.UUID;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

public class Placement {
    public static void main(String[] args) {
        Random random = new Random(42);
        for (int length = 0; length < 70; length++) {
            byte[] key = new byte[length];
            random.nextBytes(key);
            print(key);
        }
        for (int i = 0; i < 400; i++) {
            byte[] bytes = new byte[16];
            random.nextBytes(bytes);
            print(UUID.nameUUIDFromBytes(bytes).toString().getBytes(StandardCharsets.UTF_8));
        }
        for (int i = 0; i < 60; i++) {
            print(("order-" + i * 7919).getBytes(StandardCharsets.UTF_8));
        }
        print("größe-日本語-🦀".getBytes(StandardCharsets.UTF_8));
    }

    private static void print(byte[] key) {
        System.out.println("0x" + HexFormat.of().formatHex(key) + " " + Utils.murmur2(key)
            + " " + BuiltInPartitioner.partitionForKey(key, 12)
            + " " + BuiltInPartitioner.partitionForKey(key, 7));
    }
}
