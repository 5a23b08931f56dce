#pragma once

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <thread>

namespace vpr {

/// The locks of a PlaceIndex: many readers beside one writer. Each function returns a guard that unlocks at its end.
///
///     read    shared, for a search. Searches run side by side.
///     write   one writer at a time. It prepares its change while searches go on.
///     change  alone, without readers. A writer holds it only to put prepared rows or links in place.
///     build   one graph build at a time. It takes `write` for a slice of rows, so that other writers get a turn.
///
/// A thread takes build before write, and write before read or change. Threads wait for `read`, `write` and `change`
/// at a turnstile. Without it, a thread that locks again and again would starve the others.
class IndexLocks {
   public:
    class Build {
       public:
        Build(std::mutex& mutex, std::atomic<std::thread::id>& builder) : lock_(mutex), builder_(builder) {
            builder_ = std::this_thread::get_id();
        }
        ~Build() { builder_ = std::thread::id(); }
        Build(const Build&) = delete;
        Build& operator=(const Build&) = delete;

       private:
        const std::lock_guard<std::mutex> lock_;
        std::atomic<std::thread::id>& builder_;
    };

    std::shared_lock<std::shared_mutex> read() const {
        const std::lock_guard<std::mutex> turn(state_turnstile_);
        return std::shared_lock<std::shared_mutex>(state_);
    }

    std::unique_lock<std::mutex> write() const {
        const std::lock_guard<std::mutex> turn(write_turnstile_);
        return std::unique_lock<std::mutex>(write_);
    }

    std::unique_lock<std::shared_mutex> change() const {
        const std::lock_guard<std::mutex> turn(state_turnstile_);
        return std::unique_lock<std::shared_mutex>(state_);
    }

    /// @throws std::logic_error  this thread is building already, and would wait for itself.
    Build build() {
        if (builder_ == std::this_thread::get_id()) {
            throw std::logic_error("build_graph was called by its own progress callback");
        }
        return {build_, builder_};
    }

   private:
    std::mutex build_;
    std::atomic<std::thread::id> builder_{};
    mutable std::mutex write_turnstile_;
    mutable std::mutex write_;
    mutable std::mutex state_turnstile_;
    mutable std::shared_mutex state_;
};

}  // namespace vpr
