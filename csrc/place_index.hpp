#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "hnsw_graph.hpp"
#include "index_file.hpp"

namespace vpr {

/// What a search found. `k` columns, best first, ties by the order in which the rows were added.
struct SearchResult {
    std::size_t k = 0;
    std::vector<std::int64_t> ids;    ///< (queries, k)
    std::vector<float> similarities;  ///< (queries, k), cosine, -1 to 1
};

/// Told how many rows are done, of how many; false cancels.
using Progress = std::function<bool(std::size_t done, std::size_t total)>;

/// Unit descriptors by place id, searched by cosine: an exact scan, or an HNSW graph once one is built.
///
/// Thread-safe. Searches run beside each other and beside a writer; writers take turns. A search that runs beside
/// an add sees any prefix of its rows, each one whole.
class PlaceIndex {
   public:
    /// @throws std::invalid_argument  dim is 0 or above 65536.
    explicit PlaceIndex(std::size_t dim);
    ~PlaceIndex();
    PlaceIndex(const PlaceIndex&) = delete;
    PlaceIndex& operator=(const PlaceIndex&) = delete;

    std::size_t dim() const noexcept { return rows_.dim; }
    std::size_t size() const;      ///< places that a search can return
    std::size_t removed() const;   ///< rows that were removed and still take room
    std::int64_t last_id() const;  ///< largest id ever added, or -1
    bool has_graph() const;

    /// Append places.
    ///
    /// @param ids   (count), each >= 0 and not in the index.
    /// @param rows  float32 (count, dim), unit length.
    /// @throws std::invalid_argument  before anything is added: see require_unit_rows; an id is there already.
    void add(const std::int64_t* ids, const float* rows, std::size_t count);

    /// Forget places. Their rows stay until the index is built anew.
    ///
    /// @throws std::invalid_argument  before anything is removed: an id is not in the index.
    void remove(const std::int64_t* ids, std::size_t count);

    /// Build the HNSW graph over all rows; later adds extend it. Searches go on meanwhile, by exact scan.
    ///
    /// @param m                neighbours a row and level (twice that on the lowest), 2 to 128.
    /// @param ef_construction  candidates looked at for each row, m to 4096.
    /// @return false if `progress` cancelled, and then nothing has changed.
    bool build_graph(std::size_t m, std::size_t ef_construction, const Progress& progress);

    /// The min(k, size()) most similar places of each query.
    ///
    /// @param queries  float32 (count, dim), unit length.
    /// @param k        at least 1.
    /// @param exact    scan every row even if there is a graph.
    /// @param ef       candidates that the graph search keeps; more finds more. At least 1.
    /// @throws std::invalid_argument  see require_unit_rows.
    SearchResult search(const float* queries, std::size_t count, std::size_t k, bool exact, std::size_t ef) const;

    /// Write the index to a file: all of it or nothing, see index_file.hpp.
    void save(const std::string& path, const Fingerprint& contract, const Fingerprint& state) const;

    /// Read an index. Everything is checked before it is believed.
    ///
    /// @param state  receives what `save` was given.
    /// @throws IndexFileError
    static std::unique_ptr<PlaceIndex> load(const std::string& path, std::size_t dim, const Fingerprint& contract,
                                            Fingerprint* state);

   private:
    std::vector<Nearest> scan(const float* queries, std::size_t count, std::size_t k) const;
    std::shared_lock<std::shared_mutex> lock_to_search() const;
    std::unique_lock<std::shared_mutex> lock_to_change();

    Rows rows_;
    std::int64_t last_id_ = -1;
    std::unordered_map<std::int64_t, std::size_t> row_of_id_;  // without the removed
    std::unique_ptr<HnswGraph> graph_;

    mutable std::mutex write_mutex_;         // held by whoever changes the index, for as long as it takes
    mutable std::mutex turnstile_;           // passed by searches and changes alike, or searches keep a change waiting
    mutable std::shared_mutex state_mutex_;  // exclusive only while one row is put in place
};

}  // namespace vpr
