// The only file that includes pybind11: shapes and dtypes are checked here, values in the kernel.

#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "index_file.hpp"
#include "normalize.hpp"
#include "place_index.hpp"

namespace py = pybind11;

namespace {

using FloatRows = py::array_t<float, py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_>;

std::string shape_text(const py::array& array) { return py::str(array.attr("shape")); }

/// float32 (n, dim), or (dim) as one row. Zero-copy when C-contiguous and aligned; else copied.
struct RowsView {
    FloatRows array;
    std::size_t count;
    std::size_t dim;
    bool single;

    RowsView(const py::object& object, const char* what, std::size_t expected_dim = 0) {
        if (!py::isinstance<py::array>(object)) {
            throw py::type_error(std::string(what) + " is a " +
                                 std::string(py::str(py::type::of(object).attr("__name__"))) +
                                 ", expected a numpy array of float32");
        }
        const auto any = py::reinterpret_borrow<py::array>(object);
        if (!py::isinstance<py::array_t<float>>(any)) {  // an equal dtype need not be the same object: pickle
            throw py::type_error(std::string(what) + " has dtype " + std::string(py::str(any.dtype())) +
                                 ", expected float32; convert with .astype(numpy.float32)");
        }
        const std::string wanted = expected_dim == 0 ? "D" : std::to_string(expected_dim);
        const auto columns = any.ndim() == 0 ? 0 : static_cast<std::size_t>(any.shape(any.ndim() - 1));
        if (any.ndim() < 1 || any.ndim() > 2 || columns == 0 || (expected_dim != 0 && columns != expected_dim)) {
            throw py::value_error(std::string(what) + " has shape " + shape_text(any) + ", expected (n, " + wanted +
                                  ") or (" + wanted + ",)");
        }
        array = FloatRows(any);
        single = any.ndim() == 1;
        count = single ? 1 : static_cast<std::size_t>(any.shape(0));
        dim = columns;
    }

    std::vector<py::ssize_t> shape(std::size_t columns) const {
        const auto width = static_cast<py::ssize_t>(columns);
        if (single) return {width};
        return {static_cast<py::ssize_t>(count), width};
    }
};

FloatRows l2_normalize(const py::object& rows) {
    const RowsView view(rows, "rows");
    FloatRows result(view.shape(view.dim));
    const float* from = view.array.data();
    float* to = result.mutable_data();
    {
        const py::gil_scoped_release release;
        vpr::l2_normalize(from, view.count, view.dim, to);
    }
    return result;
}

using Ids =
    py::array_t<std::int64_t, py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_ | py::array::forcecast>;

Ids to_ids(const py::object& object, std::size_t expected) {
    const py::array any(object);
    const bool empty = any.size() == 0;  // numpy makes an empty list float64
    if (!empty && any.dtype().kind() != 'i' && any.dtype().kind() != 'u') {
        throw py::type_error("ids have dtype " + std::string(py::str(any.dtype())) + ", expected int64");
    }
    if (any.ndim() != 1 || (expected != SIZE_MAX && static_cast<std::size_t>(any.size()) != expected)) {
        const std::string wanted = expected == SIZE_MAX ? "n" : std::to_string(expected);
        throw py::value_error("ids have shape " + shape_text(any) + ", expected (" + wanted + ",)");
    }
    return Ids(any);
}

vpr::Fingerprint to_fingerprint(const py::bytes& bytes, const char* what) {
    const auto text = static_cast<std::string>(bytes);
    vpr::Fingerprint fingerprint{};
    if (text.size() != fingerprint.size()) {
        throw py::value_error(std::string(what) + " has " + std::to_string(text.size()) + " bytes, expected " +
                              std::to_string(fingerprint.size()));
    }
    std::memcpy(fingerprint.data(), text.data(), text.size());
    return fingerprint;
}

std::size_t at_least_one(py::ssize_t value, const char* what) {
    if (value < 1) throw py::value_error(std::string(what) + " is " + std::to_string(value) + ", expected 1 or more");
    return static_cast<std::size_t>(value);
}

py::tuple search(const vpr::PlaceIndex& index, const py::object& queries, py::ssize_t k, bool exact, py::ssize_t ef) {
    const RowsView view(queries, "queries", index.dim());
    const std::size_t wanted = at_least_one(k, "k");
    const std::size_t effort = at_least_one(ef, "ef");
    const float* from = view.array.data();
    vpr::SearchResult found;
    {
        const py::gil_scoped_release release;
        found = index.search(from, view.count, wanted, exact, effort);
    }
    Ids ids(view.shape(found.k));
    FloatRows similarities(view.shape(found.k));
    std::copy(found.ids.begin(), found.ids.end(), ids.mutable_data());
    std::copy(found.similarities.begin(), found.similarities.end(), similarities.mutable_data());
    return py::make_tuple(ids, similarities);
}

bool build_graph(vpr::PlaceIndex& index, py::ssize_t m, py::ssize_t ef_construction, const py::object& progress) {
    const std::size_t links = at_least_one(m, "m");
    const std::size_t candidates = at_least_one(ef_construction, "ef_construction");
    const bool told = !progress.is_none();
    const vpr::Progress tell = [&progress, told](std::size_t done, std::size_t total) {
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();  // Ctrl-C ends a long build
        if (told) progress(done, total);
        return true;
    };
    const py::gil_scoped_release release;
    return index.build_graph(links, candidates, tell);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.doc() = "The C++ kernel: descriptor normalisation and search. Signatures are in _core.pyi.";
    module.attr("INDEX_FILE_VERSION") = vpr::kIndexFileVersion;
    py::register_exception<vpr::IndexFileError>(module, "IndexFileError", PyExc_RuntimeError);

    module.def("l2_normalize", &l2_normalize, py::arg("rows"));

    py::class_<vpr::PlaceIndex>(module, "PlaceIndex")
        .def(py::init([](py::ssize_t dim) { return std::make_unique<vpr::PlaceIndex>(at_least_one(dim, "dim")); }),
             py::arg("dim"))
        .def("__len__", &vpr::PlaceIndex::size)
        .def_property_readonly("dim", &vpr::PlaceIndex::dim)
        .def_property_readonly("removed", &vpr::PlaceIndex::removed)
        .def_property_readonly("last_id", &vpr::PlaceIndex::last_id)
        .def_property_readonly("has_graph", &vpr::PlaceIndex::has_graph)
        .def(
            "add",
            [](vpr::PlaceIndex& index, const py::object& ids, const py::object& descriptors) {
                const RowsView view(descriptors, "descriptors", index.dim());
                const Ids id_array = to_ids(ids, view.count);
                const py::gil_scoped_release release;
                index.add(id_array.data(), view.array.data(), view.count);
            },
            py::arg("ids"), py::arg("descriptors"))
        .def(
            "remove",
            [](vpr::PlaceIndex& index, const py::object& ids) {
                const Ids id_array = to_ids(ids, SIZE_MAX);
                const py::gil_scoped_release release;
                index.remove(id_array.data(), static_cast<std::size_t>(id_array.size()));
            },
            py::arg("ids"))
        .def("build_graph", &build_graph, py::arg("m") = 16, py::arg("ef_construction") = 200,
             py::arg("progress") = py::none())
        .def("search", &search, py::arg("queries"), py::arg("k"), py::kw_only(), py::arg("exact") = false,
             py::arg("ef") = 64)
        .def(
            "save",
            [](const vpr::PlaceIndex& index, const std::string& path, const py::bytes& contract,
               const py::bytes& state) {
                const vpr::Fingerprint contract_id = to_fingerprint(contract, "contract");
                const vpr::Fingerprint state_id = to_fingerprint(state, "state");
                const py::gil_scoped_release release;
                index.save(path, contract_id, state_id);
            },
            py::arg("path"), py::kw_only(), py::arg("contract"), py::arg("state"))
        .def_static(
            "load",
            [](const std::string& path, py::ssize_t dim, const py::bytes& contract) {
                const std::size_t expected_dim = at_least_one(dim, "dim");
                const vpr::Fingerprint contract_id = to_fingerprint(contract, "contract");
                vpr::Fingerprint state{};
                std::unique_ptr<vpr::PlaceIndex> index;
                {
                    const py::gil_scoped_release release;
                    index = vpr::PlaceIndex::load(path, expected_dim, contract_id, &state);
                }
                return py::make_tuple(std::move(index),
                                      py::bytes(reinterpret_cast<const char*>(state.data()), state.size()));
            },
            py::arg("path"), py::kw_only(), py::arg("dim"), py::arg("contract"));
}
