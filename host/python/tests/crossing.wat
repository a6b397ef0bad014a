;; A service whose data goes through another component: text crosses from memory to memory and
;; back, and the other component is told when its result has been read.
(component
  (import "halfopen:tcp/sockets@0.1.0" (instance $sockets
    (type $cases (enum "more" "wait" "ended"))
    (export "written" (type $written (eq $cases)))
    (export "write"
      (func (param "socket" u32) (param "data" (list u8)) (result $written)))))

  (component $helper
    (core module $shouting
      (memory (export "memory") 1)
      (global $next (mut i32) (i32.const 1024))
      (global $unread (mut i32) (i32.const 0))
      (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        global.get $next
        (global.set $next (i32.add (global.get $next) (local.get 3))))
      ;; Makes capital letters in place; a result that was not read is a trap.
      (func (export "shout") (param $at i32) (param $length i32) (result i32)
        (local $end i32)
        (if (global.get $unread) (then unreachable))
        (global.set $unread (i32.const 1))
        (i32.store (i32.const 8) (local.get $at))
        (i32.store (i32.const 12) (local.get $length))
        (local.set $end (i32.add (local.get $at) (local.get $length)))
        (block $done
          (loop $next
            (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
            (if (i32.and
                  (i32.ge_u (i32.load8_u (local.get $at)) (i32.const 97))
                  (i32.le_u (i32.load8_u (local.get $at)) (i32.const 122)))
              (then (i32.store8
                (local.get $at)
                (i32.sub (i32.load8_u (local.get $at)) (i32.const 32)))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $next)))
        (i32.const 8))
      (func (export "read") (param i32)
        (if (i32.ne (local.get 0) (i32.const 8)) (then unreachable))
        (global.set $unread (i32.const 0))
        (global.set $next (i32.const 1024))))
    (core instance $shouting (instantiate $shouting))
    (func (export "shout") (param "text" string) (result string)
      (canon lift (core func $shouting "shout")
        (memory (core memory $shouting "memory"))
        (realloc (core func $shouting "realloc"))
        (post-return (core func $shouting "read")))))
  (instance $helper (instantiate $helper))

  (core module $allocator
    (memory (export "memory") 1)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (if (i32.gt_u (global.get $next) (i32.const 32768))
        (then (global.set $next (i32.const 1024))))
      global.get $next
      (global.set $next (i32.add (global.get $next) (local.get 3)))))
  (core instance $allocator (instantiate $allocator))
  (core func $write
    (canon lower (func $sockets "write") (memory (core memory $allocator "memory"))))
  (core func $shout
    (canon lower (func $helper "shout")
      (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc"))))

  (core module $service
    (import "allocator" "memory" (memory 1))
    (import "functions" "write" (func $write (param i32 i32 i32) (result i32)))
    (import "functions" "shout" (func $shout (param i32 i32 i32)))
    (func (export "data") (param $socket i32) (param $at i32) (param $length i32)
      (call $shout (local.get $at) (local.get $length) (i32.const 16))
      (drop (call $write
        (local.get $socket) (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
    (func (export "nothing") (param i32))
    (func (export "nothing-of-two") (param i32 i32)))
  (core instance $functions
    (export "write" (func $write)) (export "shout" (func $shout)))
  (core instance $service (instantiate $service
    (with "allocator" (instance $allocator)) (with "functions" (instance $functions))))

  (type $code (variant (case "one") (case "other")))
  (func $nothing (param "socket" u32) (canon lift (core func $service "nothing")))
  (func $data (param "socket" u32) (param "data" (list u8))
    (canon lift (core func $service "data")
      (memory (core memory $allocator "memory")) (realloc (core func $allocator "realloc"))))
  (func $error (param "socket" u32) (param "code" $code)
    (canon lift (core func $service "nothing-of-two")))
  (func $close (param "socket" u32) (param "had-error" bool)
    (canon lift (core func $service "nothing-of-two")))
  (instance $events
    (export "connection" (func $nothing))
    (export "data" (func $data))
    (export "end" (func $nothing))
    (export "drain" (func $nothing))
    (export "timeout" (func $nothing))
    (export "error" (func $error))
    (export "close" (func $close)))
  (export "halfopen:tcp/events@0.1.0" (instance $events)))
